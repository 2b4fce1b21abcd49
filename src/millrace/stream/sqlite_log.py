"""`SqliteLog`: the embedded default log, one SQLite file that any number of processes append to and read.

One total order over all topics. WAL with ``synchronous=FULL``: an append returns when it is on disk. Where things
are: the write path and its duplicate window in `sqlite_appender`, reading and group commits in `sqlite_consumer`,
trim and purge in `sqlite_retention`, tables in `sqlite_file`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import LogError
from millrace.base.ids import Int64Array
from millrace.stream.config import LogConfig
from millrace.stream.log import DUPLICATE_WINDOW, AppendResult, DeadLetter, Message, Position
from millrace.stream.partitions import partition_mask
from millrace.stream.positions import NO_COMMIT, check_offset
from millrace.stream.sqlite_appender import SqliteAppender
from millrace.stream.sqlite_consumer import SqliteConsumer, begin_offset, committed_offsets, end_offset
from millrace.stream.sqlite_file import LogFile, transaction
from millrace.stream.sqlite_retention import purge_offsets, trim_before

_DEFAULTS: Final = LogConfig()
_LETTERS_PER_READ: Final = 256


class SqliteLog:
    """A durable log in one file. Safe to use from several threads; to be opened after a fork, not before.

    Parameters
    ----------
    path
        The file; made, with its folder, if it does not exist.
    clock
        Stamps appends and dead letters.
    n_partitions, duplicate_window
        Written into a new file; must agree with an existing one.
    busy_timeout_ms, min_free_bytes, max_dead_letters, max_dead_letter_bytes
        See `LogConfig`.

    Raises
    ------
    LogError
        If the file cannot be opened, is no log, or was made with other settings.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        n_partitions: int = 16,
        *,
        duplicate_window: int = DUPLICATE_WINDOW,
        busy_timeout_ms: int = _DEFAULTS.busy_timeout_ms,
        min_free_bytes: int = _DEFAULTS.min_free_bytes,
        max_dead_letters: int = _DEFAULTS.max_dead_letters,
        max_dead_letter_bytes: int = _DEFAULTS.max_dead_letter_bytes,
    ) -> None:
        self._clock = clock
        self._n_partitions = n_partitions
        self._max_dead_letters = max_dead_letters
        self._max_dead_letter_bytes = max_dead_letter_bytes
        settings = {"n_partitions": n_partitions, "duplicate_window": duplicate_window}
        self._file = LogFile(path, settings, busy_timeout_ms)
        self._appender = SqliteAppender(self._file, clock, n_partitions, duplicate_window, min_free_bytes)
        self._connection = self._file.connect(erases=True)
        self._lock = threading.RLock()
        # Reads have their own: they are asked for on event loops, and a write may wait for another process.
        self._reader = self._file.connect()
        self._reader_lock = threading.RLock()
        self._pid = os.getpid()
        self._is_open = True

    @classmethod
    def from_config(cls, path: Path, clock: Clock, config: LogConfig) -> SqliteLog:
        """Open a log as its settings say."""
        return cls(
            path,
            clock,
            config.n_partitions,
            duplicate_window=config.duplicate_window,
            busy_timeout_ms=config.busy_timeout_ms,
            min_free_bytes=config.min_free_bytes,
            max_dead_letters=config.max_dead_letters,
            max_dead_letter_bytes=config.max_dead_letter_bytes,
        )

    @property
    def path(self) -> Path:
        """The log's file."""
        return self._file.path

    @property
    def log_id(self) -> str:
        """Drawn when the file was made."""
        return self._file.log_id

    @property
    def n_partitions(self) -> int:
        """How many partitions keys are spread over."""
        return self._n_partitions

    def append(self, messages: Sequence[Message]) -> AppendResult:
        """Make messages durable, all or none; see `Log.append`."""
        self._check_usable()
        if not messages:
            return AppendResult(np.zeros(0, dtype=np.int64), self.end())
        return self._appender.append(messages)

    def subscribe(
        self,
        group: str,
        *,
        topics: Collection[str] | None = None,
        without: Collection[str] = (),
        partitions: Collection[int] | None = None,
        start: Position | None = None,
    ) -> SqliteConsumer:
        """Return a consumer; see `Log.subscribe`."""
        self._check_usable()
        mask = partition_mask(partitions, self._n_partitions)
        return SqliteConsumer(self._file, group, topics, without, mask, self._n_partitions, start)

    def begin(self) -> Position:
        """Return the position of the oldest kept record."""
        with self._reading() as connection:
            return (begin_offset(connection),)

    def end(self) -> Position:
        """Return the position after the newest record."""
        with self._reading() as connection:
            return (end_offset(connection),)

    def lag(self, group: str) -> int:
        """Return how many kept records the group has not committed yet."""
        with self._reading() as connection, transaction(connection, "DEFERRED"):
            begin, end = begin_offset(connection), end_offset(connection)
            committed = committed_offsets(connection, group, self._n_partitions)
            committed[committed == NO_COMMIT] = begin
            committed = np.maximum(committed, begin)
            newest, oldest = int(committed.max()), int(committed.min())
            n_behind = end - newest
            if oldest < newest:  # partitions are committed by different consumers
                rows = connection.execute(
                    "SELECT end_offset, n, partitions FROM batches WHERE end_offset > ? ORDER BY end_offset", (oldest,)
                )
                for row_end, n, partitions in rows:
                    if row_end - n >= newest:
                        rows.close()
                        break
                    offsets = np.arange(row_end - n, row_end)
                    own = committed[np.frombuffer(partitions, dtype="<u2")]
                    n_behind += int(np.count_nonzero((offsets >= own) & (offsets < newest)))
            return n_behind

    def trim(self, before: Position) -> int:
        """Forget records before ``before``; return how many. Waiting appends get their turn in between."""
        with self._writing() as connection:
            return trim_before(connection, check_offset(before, end_offset(connection)))

    def purge(self, offsets: Int64Array) -> int:
        """Overwrite the data of single records with nothing, in file and write-ahead log; return how many changed."""
        with self._writing() as connection:
            return purge_offsets(connection, offsets)

    def dead_letter(self, letters: Sequence[tuple[str, str, str, bytes]]) -> None:
        """Keep refused messages: (topic, origin, reason, data) each; beyond the bounds the oldest are dropped."""
        now_ms = self._clock.now_ms()
        with self._writing() as connection, transaction(connection):
            connection.executemany(
                "INSERT INTO dead_letters (topic, origin, reason, data, refused_at_ms) VALUES (?, ?, ?, ?, ?)",
                [(topic, origin, reason, bytes(data), now_ms) for topic, origin, reason, data in letters],
            )
            while self._has_too_many_letters(connection):
                connection.execute(
                    "DELETE FROM dead_letters WHERE letter_id = (SELECT min(letter_id) FROM dead_letters)"
                )
                connection.execute("UPDATE dead_letter_totals SET n_dropped = n_dropped + 1")

    def dead_letters(self, *, after_id: int = 0) -> Iterator[DeadLetter]:
        """Yield the kept refused messages, oldest first."""
        while True:
            with self._reading() as connection:
                rows = connection.execute(
                    "SELECT letter_id, topic, origin, reason, data, refused_at_ms FROM dead_letters "
                    "WHERE letter_id > ? ORDER BY letter_id LIMIT ?",
                    (after_id, _LETTERS_PER_READ),
                ).fetchall()
            for row in rows:
                yield DeadLetter(*row)
            if len(rows) < _LETTERS_PER_READ:
                return
            after_id = rows[-1][0]

    def remove_dead_letters(self, letter_ids: Sequence[int]) -> int:
        """Remove letters; return how many there were."""
        with self._writing() as connection, transaction(connection):
            return sum(
                connection.execute("DELETE FROM dead_letters WHERE letter_id = ?", (letter_id,)).rowcount
                for letter_id in letter_ids
            )

    def dead_letter_counts(self) -> tuple[int, int]:
        """Return how many dead letters are kept, and how many were dropped because there were too many."""
        with self._reading() as connection:
            n, n_dropped = connection.execute("SELECT n, n_dropped FROM dead_letter_totals").fetchone()
        return int(n), int(n_dropped)

    def groups(self) -> tuple[str, ...]:
        """Return the groups that ever committed, sorted."""
        with self._reading() as connection:
            return tuple(name for (name,) in connection.execute("SELECT group_name FROM commits ORDER BY group_name"))

    def flush(self) -> None:
        """Return at once: every append was synced to disk before it was acknowledged."""
        self._check_usable()

    def close(self) -> None:
        """Close the log's own connections; consumers close theirs."""
        self._is_open = False
        self._appender.close()
        with self._lock:
            self._connection.close()
        with self._reader_lock:
            self._reader.close()

    def _has_too_many_letters(self, connection: sqlite3.Connection) -> bool:
        n, n_bytes = connection.execute("SELECT n, n_bytes FROM dead_letter_totals").fetchone()
        return bool(n > self._max_dead_letters or n_bytes > self._max_dead_letter_bytes)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._check_usable()
        with self._reader_lock, self._file.errors("read"):
            yield self._reader

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._check_usable()
        with self._lock, self._file.errors("written"):
            yield self._connection

    def _check_usable(self) -> None:
        if not self._is_open:
            raise LogError("log", value=str(self.path), problem="already closed", remedy="open it again")
        if os.getpid() != self._pid:
            raise LogError(
                "log",
                value=str(self.path),
                problem="opened in another process, before a fork",
                remedy="open the log in the process that uses it",
            )
