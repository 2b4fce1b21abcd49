"""``millrace import``: public data sets, and any file with a mapping, as events, through the door."""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import typer

from millrace.app.commands.options import (
    HomeOption,
    JsonOption,
    SetOption,
    home_words,
    open_settings,
    settings_or_defaults,
)
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from millrace.app.intake import Intake
    from millrace.app.rehearsal import Rehearsal
    from millrace.app.settings import Settings
    from millrace.events.envelope import AnyEvent
    from millrace.events.importers.mapped import FileKind
    from millrace.events.importers.options import ImportOptions
    from millrace.events.importers.report import ImportReport

_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SHOWN_ROWS = 5


class DataSet(enum.StrEnum):
    """What can be imported."""

    REDDIT_POSTS = "reddit-posts"
    LASTFM_2K = "lastfm-2k"
    MIND = "mind"
    ML_100K = "ml-100k"
    YELP_SOCIAL = "yelp-social"
    JSONL = "jsonl"
    CSV = "csv"


_MAPPED: Final = (DataSet.JSONL, DataSet.CSV)


def import_data(
    data_set: Annotated[
        DataSet,
        typer.Argument(
            metavar="DATASET",
            help="reddit-posts, lastfm-2k, mind, ml-100k or yelp-social; or jsonl or csv, with --map.",
        ),
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The data set's folder or file, gzipped or not.")],
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="MAP.toml",
            help="What the columns of a jsonl or csv file mean (docs/howto/import-your-data.md).",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing: print the first events of every type, and the counts.")
    ] = False,
    check_rows: Annotated[
        int, typer.Option(min=1, help="With --map: try so many rows before anything is written.")
    ] = 1000,
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
    """Take in a public data set, or your own file.

    The public ones are composite: what the data lacks (viewers, authors, times) is made by seed, and said so. Your
    own file, jsonl or csv, is read by a mapping: nothing is made, and a mapping that does not fit is refused before
    anything is written. Without --span importing again adds nothing; with it, times depend on now, and importing
    again adds it all again. After a large import without a running server the state is folded and a checkpoint
    written at once: no page has to wait for it.

    Example: millrace import reddit-posts ../data/reddit-posts --span 48h

    Example: millrace import csv orders.csv --map orders.toml --dry-run
    """
    from rich.markup import escape

    from millrace.app.commands.old_posts import NewestPost
    from millrace.app.commands.printing import notes, out
    from millrace.app.wiring import build_event_clock
    from millrace.events.importers.options import ImportOptions
    from millrace.events.importers.report import ImportReport

    is_homeless = dry_run and not overrides  # nothing is written, so it takes no home
    settings = settings_or_defaults(home) if is_homeless else open_settings(home, overrides)
    options = ImportOptions(
        now_ms=build_event_clock(settings).now_ms(),
        span_ms=None if span is None else parse_span(span),
        seed=seed,
        n_viewers=viewers,
    )
    report = ImportReport()
    newest = NewestPost()
    events = newest.watch(_events(settings, data_set, path, map_file, options, report, check_rows))
    try:
        if dry_run:
            _rehearse(settings, data_set, events, report, as_json=as_json)
        else:
            _take_in(settings, data_set, events, report, has_span=span is not None, as_json=as_json)
    finally:  # also where some events were refused
        if warning := newest.warning(settings, options.now_ms, is_taken=not dry_run):
            notes().print(warning, style="yellow", markup=False, soft_wrap=True)
    if not (dry_run or as_json):
        where = escape(home_words(home))
        out().print(f"Next: [bold]millrace timeline{where}[/], or [bold]millrace serve{where}[/]", soft_wrap=True)


def parse_span(text: str, option: str = "--span") -> int:
    """Return a span such as ``48h`` in milliseconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhd])", text.strip())
    span_ms = int(float(found[1]) * _UNITS_MS[found[2]]) if found else 0
    if span_ms < _UNITS_MS["m"]:
        raise ConfigError(
            f"option {option}", value=text, problem="not a span of a minute or more", remedy="write 48h, 90m or 7d"
        )
    return span_ms


def _events(
    settings: Settings,
    data_set: DataSet,
    path: Path,
    map_file: Path | None,
    options: ImportOptions,
    report: ImportReport,
    check_rows: int,
) -> Iterator[AnyEvent]:
    """Return the events; where they come by a mapping, it has been tried on the first rows."""
    from millrace.app.wiring import build_import, build_mapped_import

    if (map_file is None) == (data_set in _MAPPED):
        raise ConfigError(
            "option --map",
            value=None if map_file is None else str(map_file),
            problem=f"needed for {data_set}" if map_file is None else f"{data_set} has its own meaning",
            remedy="name the file that says what the columns mean" if map_file is None else "leave it out",
        )
    if map_file is None:
        return build_import(data_set.value, path, options, report)
    kind: FileKind = "csv" if data_set is DataSet.CSV else "jsonl"
    return build_mapped_import(settings, kind, path, map_file, options, report, check_rows=check_rows)


class _Taker(Protocol):
    def take(self, events: Sequence[AnyEvent]) -> None: ...


def _pour(what: str, parts: Iterable[list[AnyEvent]], taker: _Taker, report: ImportReport) -> None:
    """Give all events to whoever takes them, with progress."""
    from millrace.app.commands.printing import progress

    n_shown = 0
    with progress(what) as step:
        for part in parts:
            taker.take(part)
            step.total(report.n_rows_total or None)
            step.advance(report.n_rows - n_shown)
            n_shown = report.n_rows


def _take_in(
    settings: Settings,
    data_set: DataSet,
    events: Iterator[AnyEvent],
    report: ImportReport,
    *,
    has_span: bool,
    as_json: bool,
) -> None:
    from millrace.app.commands.printing import out, print_json, progress
    from millrace.app.commands.taking_in import fold_ahead, telling_interruptions
    from millrace.app.intake import Intake, batches
    from millrace.app.wiring import build_event_clock

    started_s = time.perf_counter()
    advice = "Running it again continues: what is in is not taken in twice."
    if has_span:
        advice = "With --span it begins anew: times depend on now, and running it again adds all events again."
    parts = batches(events)
    with progress(f"reading {data_set} once through"):
        first = next(parts, [])  # before the log is opened: what cannot be read at all leaves no trace
    with (
        Intake(settings, build_event_clock(settings)) as intake,
        telling_interruptions(lambda: intake.n_accepted, advice),
    ):
        _pour(f"importing {data_set} (rows)", chain([first], parts), intake, report)
    took_s = time.perf_counter() - started_s
    position = fold_ahead(settings, intake.n_accepted)
    if as_json:
        figures = {"data_set": data_set.value, **intake.figures(), "seconds": round(took_s, 2)}
        print_json({**figures, "checkpoint_offset": position, "report": report})
    else:
        _print_taken(out(), data_set, intake, took_s)
        _print_report(out(), report, intake.refusals)
    if intake.n_refused:
        raise typer.Exit(1)


def _rehearse(
    settings: Settings, data_set: DataSet, events: Iterator[AnyEvent], report: ImportReport, *, as_json: bool
) -> None:
    """Print what an import would do: the first events on stdout, as `millrace ingest` takes them, counts on stderr."""
    import msgspec

    from millrace.app.commands.printing import notes, out, print_json
    from millrace.app.intake import batches
    from millrace.app.rehearsal import Rehearsal

    rehearsal = Rehearsal(settings)
    _pour(f"reading {data_set} (rows)", batches(events), rehearsal, report)
    if as_json:
        figures = {"data_set": data_set.value, "is_dry_run": True, **rehearsal.figures()}
        print_json({**figures, "first_events": rehearsal.first_events, "report": report})
    else:
        for event in rehearsal.first_events:
            out().out(msgspec.json.encode(event).decode(), highlight=False)
        _print_rehearsed(notes(), data_set, rehearsal)
        _print_report(notes(), report, rehearsal.refusals)
    if rehearsal.n_refused:
        raise typer.Exit(1)


def _print_taken(console: Console, data_set: DataSet, intake: Intake, took_s: float) -> None:
    from millrace.app.commands.printing import count

    console.print(
        f"[bold]{data_set.value}[/]: {count(intake.n_accepted, 'event')} accepted, {intake.n_duplicates:,} there "
        f"already, {intake.n_refused:,} refused, in {took_s:.1f} s"
    )


def _print_rehearsed(console: Console, data_set: DataSet, rehearsal: Rehearsal) -> None:
    from millrace.app.commands.printing import count

    console.print(
        f"[bold]{data_set.value}[/], dry run: {count(rehearsal.n_acceptable, 'event')} would be taken in, "
        f"{rehearsal.n_refused:,} refused; nothing was written"
    )


def _print_report(console: Console, report: ImportReport, refusals: Sequence[str]) -> None:
    from rich.markup import escape

    from millrace.app.commands.printing import count, plain

    by_type = ", ".join(f"{n:,} {name}" for name, n in report.n_events_by_type.most_common())
    console.print(f"[dim]{escape(by_type)}[/]")
    if report.is_composite:
        console.print(f"[yellow]{escape(report.composition)}[/]")
    console.print(f"{count(report.n_rows, 'row')} read, {report.n_unreadable:,} of them could not be used")
    for reason, n in report.n_unreadable_by_reason.most_common():
        console.print(f"  {n:,} x {escape(plain(reason))}")
    for row in report.unreadable[:_SHOWN_ROWS]:
        console.print(f"  [dim]{escape(plain(f'{row.file} line {row.line}: {row.reason}: {row.excerpt}'))}[/]")
    if report.n_unmatched:
        console.print(f"{count(report.n_unmatched, 'row')} to which no rule of the mapping applies")
    for error in refusals:
        console.print(f"  refused: {escape(plain(error))}")
