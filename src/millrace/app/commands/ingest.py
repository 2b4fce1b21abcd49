"""``millrace ingest``: NDJSON events from a file or a pipe, through the door."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.base.errors import SourceDataError

_BATCH_LINES = 2_000
_SHOWN_REFUSALS = 5


def ingest(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="NDJSON, perhaps gzipped; - reads standard input.")],
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in events: one JSON object a line.

    Every event passes the door: what it refuses goes to dead letters with the reason, the rest goes on. Sending a
    file twice is safe where its events have an event_id or an event_time_ms. Ends with code 1 if any was refused.
    After a large file without a running server the state is folded and a checkpoint written at once.

    Example: millrace ingest events.ndjson
    """
    from millrace.app.commands.printing import count, notes, out, plain, print_json, progress
    from millrace.app.commands.taking_in import fold_ahead, telling_interruptions
    from millrace.app.wiring import build_codec, build_collector, build_log

    settings = open_settings(home, overrides)
    log = build_log(settings)
    collector = build_collector(settings, log, build_codec(settings))
    totals: Counter[str] = Counter()
    refusals: list[tuple[int, str]] = []
    n_lines = 0
    advice = "Running it again is safe where events have an event_id or an event_time_ms: they are not taken in twice."
    with telling_interruptions(lambda: totals["accepted"], advice), progress("events") as step:
        for lines in _batches(_lines(file)):
            for number, result in enumerate(collector.submit_json([text for _, text in lines], "ingest")):
                totals[result.status] += 1
                if result.status == "refused" and len(refusals) < _SHOWN_REFUSALS:
                    refusals.append((lines[number][0], result.error))
            n_lines += len(lines)
            step.advance(len(lines))
    log.close()
    figures = {name: totals[status] for name, status in _NAMES.items()}
    position = fold_ahead(settings, figures["n_accepted"])
    if as_json:
        listed = [{"line": line, "error": error} for line, error in refusals]
        print_json({**figures, "checkpoint_offset": position, "refusals": listed})
    else:
        out().print(
            f"{count(figures['n_accepted'], 'event')} accepted, {figures['n_duplicates']:,} there already, "
            f"{figures['n_refused']:,} refused"
        )
        for line, error in refusals:
            notes().print(f"line {line}: {plain(error)}", markup=False)
        if figures["n_refused"] > len(refusals):
            notes().print("… and more; see `millrace dead-letters list`")
    if figures["n_refused"]:
        raise typer.Exit(1)


_NAMES = {"n_accepted": "accepted", "n_duplicates": "duplicate", "n_refused": "refused"}


def _lines(file: str) -> Iterator[tuple[int, bytes]]:
    """Yield line numbers and lines, blank ones left out."""
    with _open(file) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                if text := line.strip():
                    yield number, text
        except (OSError, EOFError) as error:  # a truncated or foreign gzip stream
            raise SourceDataError(
                "file", value=file, problem=f"cannot be read on ({error})", remedy="check the file; what was read is in"
            ) from error


def _open(file: str) -> IO[bytes]:
    if file == "-":
        return sys.stdin.buffer
    try:
        if file.endswith(".gz"):
            import gzip

            return gzip.open(file, "rb")  # type: ignore[return-value]
        return Path(file).open("rb")
    except OSError as error:
        raise SourceDataError(
            "file", value=file, problem=f"cannot be opened ({error.strerror})", remedy="check the path"
        ) from error


def _batches(lines: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    source = iter(lines)
    while batch := list(islice(source, _BATCH_LINES)):
        yield batch
