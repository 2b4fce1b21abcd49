"""``millrace flywheel skew``: logged features against what the log gives when it is replayed."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings


def skew(
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Newest rows (posts on pages) that are compared; default: all.", show_default=False),
    ] = None,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the log to the moment of each logged page, and compare every feature bit for bit.

    Pages and candidates whose features were logged (`home.logs_features`) are encoded anew by the definitions that
    serve, over the state at the page's log position and with its own params. What a component would have written that
    failed, was late or skipped then is not compared, and is told. Ends with code 1 if a single value differs: the
    feature that does says which definition is not one. Works beside a running server; nothing is written.

    Example: millrace flywheel skew --rows 100000 --json
    """
    from millrace.app.commands.printing import count, out, print_json, print_table, progress
    from millrace.app.feature_skew import home_skew

    report = home_skew(open_settings(home, overrides), progress, max_rows=rows)
    if as_json:
        print_json(report)
    else:
        told = f"{count(report.n_values, 'value')} of {count(report.n_rows, 'row')} on {count(report.n_pages, 'page')}"
        out().print(f"{told}: {report.n_differing:,} differ")
        if report.n_rows_missing:
            out().print(f"{count(report.n_rows_missing, 'row')} of posts that the replayed state does not have")
        if report.n_pages_left_out:
            out().print(f"{count(report.n_pages_left_out, 'page')} left out: of another version, or without `Served`")
        if report.n_incomplete:
            told = ", ".join(f"{name} on {n:,}" for name, n in report.not_run.items())
            out().print(f"{count(report.n_incomplete, 'page')} not compared in full: made without {told}")
        if report.differing:
            print_table("Differing values", ("feature", "values"), list(report.differing.items()))
            examples = [(e.request_id, e.row, e.feature, e.logged, e.replayed) for e in report.examples]
            print_table("For example", ("request", "row", "feature", "logged", "replayed"), examples)
    if report.n_differing:
        raise typer.Exit(1)
