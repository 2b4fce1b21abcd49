"""``millrace flywheel join``: pages joined with what was done on them, as durable samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings

if TYPE_CHECKING:
    from millrace.app.settings import Settings
    from millrace.flywheel.join_status import JoinStatus


def join(
    once: Annotated[
        bool, typer.Option("--once", help="Join what the log holds and end, instead of following it until Ctrl-C.")
    ] = False,
    show: Annotated[
        bool,
        typer.Option("--show", help="Join nothing; tell how the join stood at its last commit, as a server's does."),
    ] = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join what was served with what people did, and write samples, epoch by epoch.

    A running server does this by itself (flywheel.joins); this is for homes whose server does not, and for logs that
    were imported. Samples are in data/samples (Parquet) and in the log's topic flywheel.samples. It may be killed at
    any moment: nothing is lost, nothing is there twice.

    Example: millrace flywheel join --once --json
    """
    from millrace.app.commands.printing import notes, out, print_json
    from millrace.app.join_role import follow_by_hand
    from millrace.flywheel.join_status import join_status

    settings = open_settings(home, overrides)
    if not show:
        with notes().status("joining …"):
            follow_by_hand(settings, once=once)
    status = join_status(settings.samples_dir)
    if as_json:
        print_json(_plain(status, settings))
    elif status is None:
        out().print("nothing was joined yet: the log holds no pages, or no server has run")
    else:
        out().print(join_words(status))


def join_words(status: JoinStatus) -> str:
    """Return how the join stands, in a few lines."""
    rate, stats = status.rate, status.stats
    n_first = status.n_samples - status.n_corrections
    samples = f"{n_first:,} samples and {status.n_corrections:,} corrections of {status.n_pages:,} pages so far"
    rates = f"join rate {rate.looks_frac:.1%} of looks, {rate.deeds_frac:.1%} of actions; late {rate.late_frac:.1%}"
    half_kb, most_kb = status.page_bytes_p50 / 1000, status.page_bytes_p99 / 1000
    behind = f"{status.lag_records:,} log records behind; watermark {status.lag_ms / 60_000:.0f} min behind the newest"
    lines = [
        f"epoch {status.epoch}: {samples}; {stats.n_waiting:,} wait for the end of their window",
        f"{rates}; a logged request is {half_kb:.1f} kB, and 99 of 100 are at most {most_kb:.1f} kB",
        f"{behind} event",
    ]
    if rate.alarm:
        lines.append(f"ALARM: {rate.alarm}")
    return "\n".join(lines)


def _plain(status: JoinStatus | None, settings: Settings) -> dict[str, object]:
    import msgspec

    if status is None:
        return {"epoch": 0, "folder": str(settings.samples_dir)}
    told: dict[str, object] = msgspec.to_builtins(msgspec.structs.replace(status, points=()))
    return {**told, "folder": str(settings.samples_dir)}
