"""``millrace import``: public data sets as events, through the door."""

from __future__ import annotations

import enum
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.app.intake import Intake
    from millrace.events.importers.report import ImportReport

_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SHOWN_ROWS = 5


class DataSet(enum.StrEnum):
    """What can be imported."""

    REDDIT_POSTS = "reddit-posts"
    LASTFM_2K = "lastfm-2k"


def import_data(
    data_set: Annotated[DataSet, typer.Argument(metavar="DATASET", help="reddit-posts or lastfm-2k.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The data set's folder or file, gzipped or not.")],
    span: Annotated[
        str | None,
        typer.Option(help="Compress time so that all of it lies within this span before now: 48h, 7d."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that the data does not say.")] = 1,
    viewers: Annotated[int, typer.Option(min=0, max=1_000_000, help="Viewers to make where the data has none.")] = 500,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in a public data set.

    Both are composite: what the data lacks (viewers, follows, times) is made by seed, and said so. Without --span
    importing again adds nothing; with it, times depend on now, and importing again adds it all again. After a large
    import without a running server the state is folded and a checkpoint written at once: no page has to wait for it.

    Example: millrace import reddit-posts ../data/reddit-posts --span 48h
    """
    from millrace.app.commands.printing import print_json, progress
    from millrace.app.commands.taking_in import fold_ahead, telling_interruptions
    from millrace.app.intake import Intake, batches
    from millrace.app.wiring import build_clock, build_import
    from millrace.events.importers.options import ImportOptions
    from millrace.events.importers.report import ImportReport

    settings = open_settings(home, overrides)
    clock = build_clock()
    options = ImportOptions(
        now_ms=clock.now_ms(), span_ms=None if span is None else parse_span(span), seed=seed, n_viewers=viewers
    )
    report = ImportReport()
    started_s = time.perf_counter()
    advice = "Running it again continues: what is in is not taken in twice."
    if span is not None:
        advice = "With --span it begins anew: times depend on now, and running it again adds all events again."
    with (
        Intake(settings, clock) as intake,
        telling_interruptions(lambda: intake.n_accepted, advice),
        progress(f"importing {data_set} (rows)") as step,
    ):
        n_shown = 0
        for batch in batches(build_import(data_set.value, path, options, report)):
            intake.take(batch)
            step.total(report.n_rows_total or None)
            step.advance(report.n_rows - n_shown)
            n_shown = report.n_rows
    took_s = time.perf_counter() - started_s
    position = fold_ahead(settings, intake.n_accepted)
    if as_json:
        figures = {"data_set": data_set.value, **intake.figures(), "seconds": round(took_s, 2)}
        print_json({**figures, "checkpoint_offset": position, "report": report})
    else:
        _print_report(data_set, intake, report, took_s)
    if intake.n_refused:
        raise typer.Exit(1)


def parse_span(text: str, option: str = "--span") -> int:
    """Return a span such as ``48h`` in milliseconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhd])", text.strip())
    span_ms = int(float(found[1]) * _UNITS_MS[found[2]]) if found else 0
    if span_ms < _UNITS_MS["m"]:
        raise ConfigError(
            f"option {option}", value=text, problem="not a span of a minute or more", remedy="write 48h, 90m or 7d"
        )
    return span_ms


def _print_report(data_set: DataSet, intake: Intake, report: ImportReport, took_s: float) -> None:
    from rich.markup import escape

    from millrace.app.commands.printing import count, out, plain

    console = out()
    console.print(
        f"[bold]{data_set.value}[/]: {count(intake.n_accepted, 'event')} accepted, {intake.n_duplicates:,} there "
        f"already, {intake.n_refused:,} refused, in {took_s:.1f} s"
    )
    by_type = ", ".join(f"{n:,} {name}" for name, n in report.n_events_by_type.most_common())
    console.print(f"[dim]{escape(by_type)}[/]")
    if report.is_composite:
        console.print(f"[yellow]{escape(report.composition)}[/]")
    console.print(f"{count(report.n_rows, 'row')} read, {report.n_unreadable:,} of them could not be used")
    for reason, n in report.n_unreadable_by_reason.most_common():
        console.print(f"  {n:,} x {escape(plain(reason))}")
    for row in report.unreadable[:_SHOWN_ROWS]:
        console.print(f"  [dim]{escape(plain(f'{row.file} line {row.line}: {row.reason}: {row.excerpt}'))}[/]")
    for error in intake.refusals:
        console.print(f"  refused: {escape(plain(error))}")
    console.print("Next: [bold]millrace timeline[/], or [bold]millrace serve[/]")
