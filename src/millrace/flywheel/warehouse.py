"""The warehouse: the log's events as Parquet files, one folder a topic and day, for SQL and for learning.

::

    warehouse/
      state.json                                            log position exported so far
      topic=events.post/dt=2027-01-15/000000000000-000000020000.parquet

Files carry the range of log offsets that they were made from. The position is moved after the files are in place,
and files beyond it are removed before the next export: whatever kills an export, every event is in the warehouse
once. Readers see files as they were at one moment (`millrace.flywheel.file_snapshot`), whatever is exported, merged or
erased meanwhile. Payloads are JSON text (``payload ->> 'post_id'`` in SQL), so that new and foreign event types need no
change here.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from millrace.base.errors import SchemaError, StoreError
from millrace.events.codec import EventCodec
from millrace.events.envelope import MAX_TIME_MS, AnyEvent
from millrace.events.sample_events import SAMPLES_TOPIC
from millrace.events.subjects import SubjectRule
from millrace.events.user_events import UserErased
from millrace.flywheel.file_snapshot import FileSnapshot, sweep, take
from millrace.flywheel.raw_erasure import without_user
from millrace.flywheel.raw_files import RawFile, counting, raw_files
from millrace.flywheel.raw_rows import (
    UNFINISHED,
    Row,
    events_view,
    groups_to_merge,
    merge_files,
    read_rows,
    sync,
    write_rows,
)
from millrace.stream.log import Log, Position, RecordBatch, total

if TYPE_CHECKING:
    import duckdb

_STATE_FILE: Final = "state.json"
_LOCK_FILE: Final = ".lock"
_TURN_FILE: Final = ".turn"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes
    ----------
    n_events, n_files
        Written now.
    position
        The log position exported so far.
    """

    n_events: int
    n_files: int
    position: Position


class _State(msgspec.Struct, frozen=True):
    """What ``state.json`` holds."""

    position: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(min_length=1)]


class Warehouse:
    """The Parquet files in one folder. One process at a time writes them; a second one waits.

    Parameters
    ----------
    folder
        Made when it is first written to.
    codec
        Decodes the log's records.
    """

    def __init__(self, folder: Path, codec: EventCodec) -> None:
        self._folder = folder
        self._codec = codec

    def position(self) -> Position | None:
        """Return the log position exported so far; None if nothing ever was."""
        try:
            data = (self._folder / _STATE_FILE).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(data, type=_State).position
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(
                "warehouse state",
                value=str(self._folder / _STATE_FILE),
                problem=f"is damaged ({error})",
                remedy="restore it from a backup, or remove the warehouse folder to export anew",
            ) from error

    def export(
        self, log: Log, *, max_records: int | None = None, chunk_records: int = 20_000, waits: bool = True
    ) -> ExportReport:
        """Export what the log holds beyond the last export.

        The files are this process's from chunk to chunk only: who waits for them has their turn before the next one,
        so that a keeper is not held up by a long export of somebody else.

        Parameters
        ----------
        log
            Read from the last exported position, or its beginning.
        max_records
            Stop after about this many; None for all.
        chunk_records
            Records per set of files; bounds the memory used, and how long others wait.
        waits
            Whether to wait while another process writes; else nothing more is exported.
        """
        n_events = n_files = done = 0
        start = self.position() or log.begin()
        # Samples have files of their own (`millrace.flywheel.sample_files`).
        consumer = log.subscribe("warehouse", without=(SAMPLES_TOPIC,), start=start)
        try:
            while max_records is None or done < max_records:
                with self._locked(waits=waits) as is_mine:
                    start = self._start(log)
                    if not is_mine:
                        break
                    self._remove_unfinished(total(start))
                    # Read under the lock: an erasure purges the log before it comes here, or finds what was read.
                    consumer.seek(start)
                    records = consumer.poll(chunk_records)
                    if not len(records):
                        break
                    written, files = self._write_chunk(records, total(start))
                    start = records.end
                    self._move_position(start)
                    n_events, n_files, done = n_events + written, n_files + files, done + len(records)
        finally:
            consumer.close()
        return ExportReport(n_events, n_files, start)

    def erase(self, user: str, posts: Collection[str] = (), *, before: int) -> int:
        """Rewrite every file that holds something of a user; return how many rows were removed or changed.

        Parameters
        ----------
        user
            Outside id.
        posts
            Outside ids of posts known to be theirs.
        before
            Log offset of the erasure: what came later belongs to somebody who has come back, except pages that
            were made before it and logged after it.
        """
        if not any(True for _ in self._files()):
            return 0
        rule = SubjectRule((user,), posts)
        n_changed = 0
        with self._locked():
            # Twice: the first pass learns all posts of the users, whichever file tells of them.
            for is_last in (False, True):
                for path in self._files():
                    rows = read_rows(path)
                    kept = [new for row in rows if (new := without_user(row, rule, before, self._codec)) is not None]
                    if is_last and kept != rows:
                        n_changed += len(rows) - len(kept)
                        n_changed += sum(new["payload"] != old["payload"] for new, old in _pairs(kept, rows))
                        _replace(path, kept)
        return n_changed

    def problems(self) -> list[tuple[Path, str]]:
        """Return the files that cannot be read, each with the reason; only their footers are looked at."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found: list[tuple[Path, str]] = []
        for path in self._files():
            try:
                pq.read_metadata(path)
            except (pa.ArrowException, OSError) as error:
                found.append((path, str(error)))
        return found

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Return an in-memory DuckDB connection in which ``events`` is a view of all files as they are now."""
        import duckdb

        snapshot, paths = self.snapshot()
        connection = duckdb.connect()
        connection.execute("SET enable_progress_bar = false")
        connection.execute(events_view(paths))
        snapshot.hold_for(connection)
        return connection

    def snapshot(self, since: int = 0) -> tuple[FileSnapshot, list[Path]]:
        """Return the files as they are now, for as long as the snapshot is kept.

        Parameters
        ----------
        since
            Log offset; files that end before it are left out.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        return take(self._folder, lambda: [file.path for file in self.files() if file.end > since])

    def files(self) -> list[RawFile]:
        """Return the files that count."""
        position = self.position()  # first: what is exported after this is not seen half
        return list(counting(raw_files(self._folder), total(position or (0,))))

    def merge(self, *, min_files: int = 2, max_bytes: int = 256 << 20) -> int:
        """Merge the small files of each topic and day; return how many files are gone.

        Readers see the merged file or its parts, never both (`millrace.flywheel.raw_files`). Others have their turn
        between two folders.

        Parameters
        ----------
        min_files
            Folders of fewer files are left alone.
        max_bytes
            Files are merged to about this size.
        """
        sweep(self._folder)
        n_gone = 0
        for folder in sorted({file.folder for file in self.files()}):
            with self._locked():
                self._remove_unfinished(total(self.position() or (0,)))
                files = [file for file in self.files() if file.folder == folder]
                if len(files) >= min_files:
                    n_gone += sum(merge_files(group) for group in groups_to_merge(files, max_bytes))
        return n_gone

    def drop_before(self, day: str) -> int:
        """Remove the events of the days before ``day`` (``2027-01-15``); return how many files are gone."""
        with self._locked():
            old = [file for file in raw_files(self._folder) if file.day < day]
            for file in old:
                file.path.unlink()
        return len(old)

    def _start(self, log: Log) -> Position:
        """Return where the next export begins."""
        position, begin = self.position(), log.begin()
        if position is not None and total(position) < total(begin):
            logger.warning("log records %s to %s were trimmed before their export", position, begin)
        return begin if position is None else max(position, begin)

    def _write_chunk(self, records: RecordBatch, first: int) -> tuple[int, int]:
        rows_by_folder: dict[Path, list[Row]] = {}
        topics = records.topics.tolist()
        for row, data in enumerate(records.data):
            if not data:
                continue
            try:
                event = self._codec.decode(data)
            except SchemaError:
                continue  # the keeper has put it among the dead letters
            if isinstance(event.payload, UserErased):
                continue  # would name whom it asks to forget
            appended_ms = int(records.appended_ms[row])
            day = _day(min(event.event_time_ms, appended_ms))  # the effective time, as in every fold
            folder = self._folder / f"topic={records.topic_names[topics[row]]}" / f"dt={day}"
            line = self._row(event, int(records.offsets[row]), appended_ms)
            rows_by_folder.setdefault(folder, []).append(line)
        name = f"{first:012d}-{total(records.end):012d}.parquet"
        for folder, rows in rows_by_folder.items():
            folder.mkdir(parents=True, exist_ok=True)
            write_rows(folder / name, rows)
        return sum(map(len, rows_by_folder.values())), len(rows_by_folder)

    def _row(self, event: AnyEvent, offset: int, appended_ms: int) -> Row:
        return {
            "log_offset": offset,
            "event_time_ms": event.event_time_ms,
            "appended_ms": appended_ms,
            "schema_version": event.schema_version,
            "event_id": event.event_id,
            "source": event.source,
            "type": type(event.payload).__name__,
            "payload": msgspec.json.encode(event.payload).decode(),
        }

    def _files(self) -> Iterator[Path]:
        yield from (file.path for file in raw_files(self._folder))

    def _remove_unfinished(self, position: int) -> None:
        for path in self._folder.glob(f"topic=*/dt=*/*.parquet{UNFINISHED}"):
            path.unlink()
        files = raw_files(self._folder)
        for file in set(files).difference(counting(files, position)):
            file.path.unlink()

    def _move_position(self, position: Position) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f"{_STATE_FILE}{UNFINISHED}"
        unfinished.write_bytes(msgspec.json.encode({"position": list(position)}))
        sync(unfinished)
        unfinished.rename(self._folder / _STATE_FILE)

    @contextmanager
    def _locked(self, *, waits: bool = True) -> Iterator[bool]:
        """Have the files to oneself; yield whether that is so, which it always is for one who waits.

        Locks are not given in order. Who waits holds the turn meanwhile: nobody, not even who had the files last, comes
        before them.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        how = fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB
        with (self._folder / _LOCK_FILE).open("w") as file, (self._folder / _TURN_FILE).open("w") as turn:
            is_mine = True
            try:
                fcntl.flock(turn, how)
                fcntl.flock(file, how)
            except BlockingIOError:
                is_mine = False
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield is_mine


def _day(time_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=min(max(time_ms, 0), MAX_TIME_MS))).date().isoformat()


def _pairs(kept: list[Row], rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    old_by_offset = {row["log_offset"]: row for row in rows}
    for new in kept:
        yield new, old_by_offset[new["log_offset"]]


def _replace(path: Path, rows: list[Row]) -> None:
    if rows:
        write_rows(path, rows)
    else:
        path.unlink()
