"""`SqliteAppender`: the write path of a `SqliteLog`.

An append is prepared outside of any lock (hashes, partitions, lengths), then written in one transaction. Threads
that arrive while another one's transaction runs are written together by the next: one sync of the disk carries
them all. Inside the transaction the duplicate window first takes in what other processes appended since, so every
process drops exactly the same events.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.clock import Clock
from millrace.base.errors import LogError, LogFullError
from millrace.stream.dedup import BoolArray, DuplicateWindow, digest_bytes, digests_from, load_kernels
from millrace.stream.log import AppendResult, Message
from millrace.stream.partitions import partition_of
from millrace.stream.positions import check_messages
from millrace.stream.sqlite_file import LogFile, transaction

_MAX_ROW_RECORDS: Final = 4096
_MAX_ROW_BYTES: Final = 4 << 20
_MAX_TOPICS: Final = 1 << 15
_MAX_WAL_BYTES: Final = 256 << 20
_WAL_CUT_TIMEOUT_MS: Final = 50


@dataclass(slots=True, eq=False)
class _Waiting:
    """One caller's messages, as columns, and what became of them."""

    topics: list[str]
    partitions: npt.NDArray[np.uint16]
    digests: npt.NDArray[np.uint64]
    data: list[bytes]
    result: AppendResult | None = None
    error: LogError | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None


@dataclass(slots=True)
class _Columns:
    """The new records of one transaction, side by side."""

    codes: npt.NDArray[np.int16]
    partitions: npt.NDArray[np.uint16]
    lengths: npt.NDArray[np.uint32]
    data: list[bytes]
    ends: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.ends = np.cumsum(self.lengths, dtype=np.int64)

    def rows(self) -> Iterator[slice]:
        """Cut the records into rows of the file: bounded in records and in bytes."""
        start = 0
        while start < len(self.data):
            base = int(self.ends[start - 1]) if start else 0
            stop = int(np.searchsorted(self.ends, base + _MAX_ROW_BYTES, side="right"))
            stop = min(max(stop, start + 1), start + _MAX_ROW_RECORDS)
            yield slice(start, stop)
            start = stop


class SqliteAppender:
    """Appends to one log file; safe to use from several threads.

    Parameters
    ----------
    file
        The log's file.
    clock
        Stamps appends.
    n_partitions
        Of the log.
    window
        How many events the duplicate window holds.
    min_free_bytes
        Appends are refused when the disk has less room than this.
    max_wal_bytes
        How large the write-ahead log may grow before it is cut back.
    """

    def __init__(
        self,
        file: LogFile,
        clock: Clock,
        n_partitions: int,
        window: int,
        min_free_bytes: int,
        max_wal_bytes: int = _MAX_WAL_BYTES,
    ) -> None:
        self._file = file
        self._clock = clock
        self._n_partitions = n_partitions
        self._window_size = window
        self._min_free_bytes = min_free_bytes
        self._max_wal_bytes = self._wal_bound_bytes = max_wal_bytes
        self._connection = file.connect()
        self._code_by_topic: dict[str, int] = {}
        self._window: DuplicateWindow | None = None  # filled by the first append: readers never pay for it
        self._write_lock = threading.Lock()
        self._queue_lock = threading.Lock()
        self._queue: list[_Waiting] = []

    def append(self, messages: Sequence[Message]) -> AppendResult:
        """Make messages durable, all or none; see `Log.append`."""
        waiting = self._prepare(messages)
        with self._queue_lock:
            self._queue.append(waiting)
        with self._write_lock:
            if not waiting.is_done:  # else another thread's transaction took it along
                with self._queue_lock:
                    taken, self._queue = self._queue, []
                try:
                    self._append_together(taken)
                finally:
                    with self._queue_lock:  # after an interrupt, what is left belongs to its own threads again
                        self._queue[:0] = [w for w in taken if not w.is_done and w is not waiting]
        if waiting.error is not None:
            raise waiting.error
        if waiting.result is None:
            raise LogError("append", problem="was interrupted", remedy="send the events again")
        return waiting.result

    def close(self) -> None:
        """Close the connection."""
        with self._write_lock:
            self._connection.close()

    def _prepare(self, messages: Sequence[Message]) -> _Waiting:
        check_messages(messages)
        n_partitions = self._n_partitions
        return _Waiting(
            topics=[message.topic for message in messages],
            partitions=np.array([partition_of(message.key, n_partitions) for message in messages], dtype=np.uint16),
            digests=digests_from(digest_bytes([message.event_id for message in messages])),
            data=[message.data for message in messages],
        )

    def _append_together(self, group: list[_Waiting]) -> None:
        try:
            self._write(group)
        except LogError as error:
            if len(group) == 1:
                group[0].error = error
                return
            for waiting in group:  # one of them may be too large, the others need not suffer
                self._append_together([waiting])

    def _write(self, group: list[_Waiting]) -> None:
        load_kernels()  # not under the file's lock: other processes wait for that
        self._check_room()
        self._bound_wal()
        try:
            with self._file.errors("written"), transaction(self._connection):
                results = self._write_rows(group)
        except BaseException:
            # The window and the topics may know what the file does not: both are read again when needed.
            self._window = None
            self._code_by_topic = {}
            raise
        for waiting, result in zip(group, results, strict=True):
            waiting.result = result

    def _write_rows(self, group: list[_Waiting]) -> list[AppendResult]:
        window = self._catch_up()
        first = window.end
        digests = np.concatenate([waiting.digests for waiting in group])
        is_new = window.admit(digests)
        end = window.end
        if end > first:
            self._insert_records(self._new_columns(group, is_new), first)
            kept = digests if is_new.all() else digests[is_new]
            self._connection.execute("INSERT INTO event_ids VALUES (?, ?)", (end, kept.tobytes()))
            self._connection.execute("DELETE FROM event_ids WHERE end_offset <= ?", (end - self._window_size,))
        offsets = np.where(is_new, first + np.cumsum(is_new) - 1, -1).astype(np.int64)
        cuts = np.cumsum([len(waiting.data) for waiting in group])[:-1]
        return [AppendResult(part, (end,)) for part in np.split(offsets, cuts)]

    def _insert_records(self, new: _Columns, first: int) -> None:
        now_ms = self._clock.now_ms()
        self._connection.executemany(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    first + row.stop,
                    row.stop - row.start,
                    now_ms,
                    new.codes[row].tobytes(),
                    new.partitions[row].tobytes(),
                    new.lengths[row].tobytes(),
                    b"".join(new.data[row]),
                )
                for row in new.rows()
            ),
        )

    def _new_columns(self, group: list[_Waiting], is_new: BoolArray) -> _Columns:
        topics = list(itertools.chain.from_iterable(waiting.topics for waiting in group))
        data = list(itertools.chain.from_iterable(waiting.data for waiting in group))
        partitions = np.concatenate([waiting.partitions for waiting in group])
        if not is_new.all():
            keep = is_new.tolist()
            topics = list(itertools.compress(topics, keep))
            data = list(itertools.compress(data, keep))
            partitions = partitions[is_new]
        code_by_topic = self._topic_codes(topics)
        return _Columns(
            codes=np.array([code_by_topic[topic] for topic in topics], dtype="<i2"),
            partitions=partitions.astype("<u2", copy=False),
            lengths=np.fromiter(map(len, data), dtype="<u4", count=len(data)),
            data=data,
        )

    def _topic_codes(self, topics: list[str]) -> dict[str, int]:
        known = self._code_by_topic
        if not known.keys() >= (used := set(topics)):
            known = {name: code for code, name in self._connection.execute("SELECT code, name FROM topics")}
            for name in sorted(used - known.keys()):
                if len(known) >= _MAX_TOPICS:
                    raise LogError(
                        "topic", value=name, problem=f"the log has {len(known)} already", remedy="use fewer topics"
                    )
                self._connection.execute("INSERT INTO topics VALUES (?, ?)", (len(known), name))
                known[name] = len(known)
            self._code_by_topic = known
        return known

    def _catch_up(self) -> DuplicateWindow:
        """Return the window as of the file's end, with what other processes appended."""
        window = self._window
        if window is None or self._first_remembered(window.end) > window.end:
            window = DuplicateWindow(self._window_size, first=self._first_remembered(0))
        rows = self._connection.execute(
            "SELECT end_offset, digests FROM event_ids WHERE end_offset > ? ORDER BY end_offset", (window.end,)
        )
        for end, digests in rows:
            window.admit(digests_from(digests))
            if window.end != end:
                raise LogError(
                    "duplicate window",
                    value=end,
                    problem="the event ids kept in the log file contradict each other",
                    remedy="restore the log from a backup (millrace restore)",
                )
        self._window = window
        return window

    def _first_remembered(self, offset: int) -> int:
        """Return the offset of the first event remembered at or after ``offset``'s row."""
        row = self._connection.execute(
            "SELECT end_offset - length(digests) / 16 FROM event_ids WHERE end_offset > ? ORDER BY end_offset LIMIT 1",
            (offset,),
        ).fetchone()
        return offset if row is None else int(row[0])

    def _check_room(self) -> None:
        n_free = self._file.n_free_bytes()
        if n_free < self._min_free_bytes:
            raise LogFullError(
                "log file",
                value=str(self._file.path),
                problem=f"its disk has {n_free} bytes left, less than {self._min_free_bytes}; nothing was changed",
                remedy="free disk space, trim the log, or lower log.min_free_bytes",
            )

    def _bound_wal(self) -> None:
        """Cut the write-ahead log back when readers that never pause have kept it from being reused."""
        n_bytes = self._file.wal_bytes()
        if n_bytes <= self._wal_bound_bytes:
            return
        with self._file.errors("written"):
            timeout_ms = self._connection.execute("PRAGMA busy_timeout").fetchone()[0]
            # Only a moment: a reader that is stuck must not stop appends. The next try comes when it has grown on.
            self._connection.execute(f"PRAGMA busy_timeout = {min(timeout_ms, _WAL_CUT_TIMEOUT_MS)}")
            try:
                is_busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {timeout_ms}")
        self._wal_bound_bytes = n_bytes + self._max_wal_bytes // 4 if is_busy else self._max_wal_bytes
