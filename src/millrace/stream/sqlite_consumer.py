"""`SqliteConsumer`: reads a `SqliteLog`'s records in order, and commits how far a group has come."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.stream.log import Position, RecordBatch
from millrace.stream.positions import NO_COMMIT, check_count, check_offset, records_are_gone
from millrace.stream.sqlite_file import LogFile, transaction
from millrace.stream.wanted_topics import WantedTopics

BoolArray = npt.NDArray[np.bool_]
ScalarT = TypeVar("ScalarT", bound=np.generic)

_NO_LIMIT: Final = (1 << 63) - 1

_FROM: Final = """
SELECT end_offset, n, appended_ms, topics, partitions, lengths FROM batches WHERE end_offset > ? ORDER BY end_offset
"""


@dataclass(frozen=True, slots=True)
class _Pick:
    """What one row of the file gives to a poll."""

    end_offset: int
    first: int
    appended_ms: int
    topics: npt.NDArray[np.int16]
    lengths: npt.NDArray[np.uint32]
    rows: slice | npt.NDArray[np.intp]
    n: int


class SqliteConsumer:
    """A reader of a `SqliteLog`; made by `SqliteLog.subscribe`. Has a connection of its own.

    Parameters
    ----------
    file
        The log's file.
    group
        Whose commits to write.
    topics, without
        Names wanted, None for all; and names that are not.
    partitions
        Which partitions are wanted, shape (n_partitions,); None for all.
    n_partitions
        Of the log.
    start
        The first offset to read; None for where the group committed, or else the oldest kept record.
    """

    def __init__(
        self,
        file: LogFile,
        group: str,
        topics: Iterable[str] | None,
        without: Iterable[str],
        partitions: BoolArray | None,
        n_partitions: int,
        start: Position | None,
    ) -> None:
        self._file = file
        self._group = group
        self._wanted = WantedTopics(topics, without)
        self._partitions = partitions
        self._n_partitions = n_partitions
        self._topic_names: tuple[str, ...] = ()
        self._topic_mask: BoolArray = np.zeros(0, dtype=np.bool_)
        # The data of a row that a small poll did not use up; valid while nobody writes to the file.
        self._kept: tuple[int, int, bytes] | None = None
        self._connection = file.connect()
        weakref.finalize(self, self._connection.close)
        try:
            with file.errors("read"):
                self._offset = self._start(start)
        except BaseException:
            self._connection.close()
            raise

    @property
    def position(self) -> Position:
        """The next record to poll."""
        return (self._offset,)

    def poll(self, max_records: int, *, before: Position | None = None) -> RecordBatch:
        """Return the next records, at once, perhaps none; see `Consumer.poll`.

        Raises
        ------
        LogError
            If the next records were trimmed: a reader is never moved over a gap silently.
        """
        check_count(max_records)
        with self._file.errors("read"), transaction(self._connection, "DEFERRED"):
            self._learn_topics()
            picks, end = self._pick(max_records, _NO_LIMIT if before is None else before[0])
            data = self._read_data(picks)
        self._offset = end
        return RecordBatch(
            offsets=_joined([_numbers(p.first, p.rows, len(p.topics)) for p in picks], np.int64),
            appended_ms=np.repeat(
                np.array([p.appended_ms for p in picks], dtype=np.int64), np.array([p.n for p in picks], dtype=np.intp)
            ),
            topics=_joined([p.topics[p.rows] for p in picks], np.int16),
            topic_names=self._topic_names,
            data=tuple(data),
            end=(end,),
        )

    def commit(self, position: Position) -> None:
        """Record durably that the group has applied everything before ``position``."""
        with self._file.errors("written"), transaction(self._connection):
            offset = check_offset(position, end_offset(self._connection))
            committed = committed_offsets(self._connection, self._group, self._n_partitions)
            committed[self._partitions if self._partitions is not None else slice(None)] = offset
            self._connection.execute(
                "INSERT INTO commits VALUES (?1, ?2) ON CONFLICT (group_name) DO UPDATE SET offsets = ?2",
                (self._group, committed.astype("<i8").tobytes()),
            )

    def seek(self, position: Position) -> None:
        """Poll from ``position`` next."""
        with self._file.errors("read"):
            self._offset = check_offset(position, end_offset(self._connection))

    def close(self) -> None:
        """Close the consumer's connection; its commits stay."""
        self._connection.close()

    def _start(self, start: Position | None) -> int:
        if start is not None:
            return check_offset(start, end_offset(self._connection))
        committed = committed_offsets(self._connection, self._group, self._n_partitions)
        if self._partitions is not None:
            committed = committed[self._partitions]
        committed[committed == NO_COMMIT] = begin_offset(self._connection)
        return int(committed.min())

    def _learn_topics(self) -> None:
        n_topics = self._connection.execute("SELECT count(*) FROM topics").fetchone()[0]
        if n_topics != len(self._topic_names):
            rows = self._connection.execute("SELECT name FROM topics ORDER BY code").fetchall()
            self._topic_names = tuple(name for (name,) in rows)
            self._topic_mask = self._wanted.mask(self._topic_names)

    def _pick(self, max_records: int, before: int) -> tuple[list[_Pick], int]:
        """Return the rows to read, and the offset after them, at most ``before``."""
        position, n_wanted, is_first = self._offset, max_records, True
        picks: list[_Pick] = []
        if before <= position:
            return picks, position
        cursor = self._connection.execute(_FROM, (position,))
        is_all = self._partitions is None and bool(self._topic_mask.all())
        for end, n, appended_ms, topics_data, partitions_data, lengths_data in cursor:
            first = end - n
            if is_first and first > position:
                raise records_are_gone(position, first)
            is_first = False
            if first >= before:
                break
            n = min(n, before - first)
            topics = np.frombuffer(topics_data, dtype="<i2")
            rows: slice | npt.NDArray[np.intp]
            if is_all:
                skip = position - first
                rows = slice(skip, min(n, skip + n_wanted))
                n_picked, last = rows.stop - skip, rows.stop - 1
            else:
                rows = self._matching(topics[:n], partitions_data, position - first)[:n_wanted]
                n_picked, last = len(rows), int(rows[-1]) if len(rows) else -1
            if n_picked:
                lengths = np.frombuffer(lengths_data, dtype="<u4")
                picks.append(_Pick(end, first, appended_ms, topics, lengths, rows, n_picked))
            n_wanted -= n_picked
            if n_wanted == 0:
                position = first + last + 1
                break
            position = first + n
        cursor.close()
        if is_first and (log_end := end_offset(self._connection)) > position:
            raise records_are_gone(position, log_end)
        return picks, position

    def _matching(self, topics: npt.NDArray[np.int16], partitions_data: bytes, skip: int) -> npt.NDArray[np.intp]:
        is_wanted = self._topic_mask[topics]
        if self._partitions is not None:
            is_wanted = is_wanted & self._partitions[np.frombuffer(partitions_data, dtype="<u2")[: len(topics)]]
        is_wanted[:skip] = False
        return np.flatnonzero(is_wanted)

    def _read_data(self, picks: list[_Pick]) -> list[bytes]:
        data: list[bytes] = []
        if not picks:
            return data
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        kept, self._kept = self._kept, None
        for pick in picks:
            if kept is not None and kept[:2] == (version, pick.end_offset):
                blob = kept[2]
            else:
                blob = self._connection.execute(
                    "SELECT data FROM batches WHERE end_offset = ?", (pick.end_offset,)
                ).fetchone()[0]
            if len(pick.lengths) == 1:
                data.append(blob)
                continue
            ends = np.cumsum(pick.lengths, dtype=np.int64)
            starts = ends - pick.lengths
            data.extend([blob[a:b] for a, b in zip(starts[pick.rows].tolist(), ends[pick.rows].tolist(), strict=True)])
            if pick is picks[-1]:
                self._kept = (version, pick.end_offset, blob)
        return data


def begin_offset(connection: sqlite3.Connection) -> int:
    """Return the offset of the oldest kept record."""
    row = connection.execute("SELECT end_offset - n FROM batches ORDER BY end_offset LIMIT 1").fetchone()
    return end_offset(connection) if row is None else int(row[0])


def end_offset(connection: sqlite3.Connection) -> int:
    """Return the offset after the newest record (its event id is kept even when the record is trimmed)."""
    return int(connection.execute("SELECT ifnull(max(end_offset), 0) FROM event_ids").fetchone()[0])


def committed_offsets(connection: sqlite3.Connection, group: str, n_partitions: int) -> Int64Array:
    """Return what a group has committed, shape (n_partitions,), `NO_COMMIT` where nothing."""
    row = connection.execute("SELECT offsets FROM commits WHERE group_name = ?", (group,)).fetchone()
    if row is None:
        return np.full(n_partitions, NO_COMMIT, dtype=np.int64)
    return np.frombuffer(row[0], dtype="<i8").astype(np.int64)


def _numbers(first: int, rows: slice | npt.NDArray[np.intp], n: int) -> Int64Array:
    if isinstance(rows, slice):
        return np.arange(first + rows.start, first + min(rows.stop, n), dtype=np.int64)
    return rows.astype(np.int64) + first


def _joined(parts: list[npt.NDArray[ScalarT]], dtype: type[ScalarT]) -> npt.NDArray[ScalarT]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)
