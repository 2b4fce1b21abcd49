"""`SqliteKeyValue`: keys and values shared by all processes of one machine, through one SQLite file.

The file is in WAL mode, so reads wait for nobody. A write returns before it is on disk (``synchronous=NORMAL``): it
outlives every process, and all but the last moments outlive a power cut. What is deleted is overwritten.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from millrace.base.clock import Clock
from millrace.base.errors import StoreError
from millrace.stores.key_value import SWEEP_EVERY_MS, Change, expiry_ms
from millrace.stream.sqlite_file import switch_to_wal, transaction

_BUSY_TIMEOUT_S: Final = 5.0
_KEYS_PER_QUERY: Final = 500
_ROWS_PER_PAGE: Final = 500
_SWEPT_AT_ONCE: Final = 1_000
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS held (key BLOB PRIMARY KEY, expires_ms INTEGER, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS held_by_end ON held (expires_ms) WHERE expires_ms IS NOT NULL",
)
_IS_ALIVE: Final = "(expires_ms IS NULL OR expires_ms > ?)"
_SET: Final = "INSERT INTO held VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET expires_ms = ?2, value = ?3"


class SqliteKeyValue:
    """See `millrace.stores.key_value.KeyValueStore`.

    Parameters
    ----------
    path
        The file; made with its folder where missing.
    clock
        Gives event time; all processes must mean the same.

    Raises
    ------
    StoreError
        If the file cannot be used, or stays locked for five seconds.
    """

    is_remote = False

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._next_sweep_ms = 0
        with self._errors():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise sqlite3.OperationalError(str(error)) from error
            self._connection = sqlite3.connect(
                path, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
            )
            try:
                switch_to_wal(self._connection)
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute("PRAGMA secure_delete = ON")
                with transaction(self._connection):
                    for statement in _SCHEMA:
                        self._connection.execute(statement)
            except BaseException:
                self._connection.close()
                raise

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `KeyValueStore.get_many`."""
        now_ms = self._clock.now_ms()
        found: dict[bytes, bytes] = {}
        with self._lock, self._errors():
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                some = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(some))
                select = f"SELECT key, value FROM held WHERE key IN ({marks}) AND {_IS_ALIVE}"  # noqa: S608 - marks
                found.update(self._connection.execute(select, (*some, now_ms)))
        return [found.get(key) for key in keys]

    def set_many(self, values: Mapping[bytes, bytes], *, ttl_ms: int | None = None) -> None:
        """See `KeyValueStore.set_many`."""
        now_ms = self._clock.now_ms()
        expires_ms = expiry_ms(now_ms, ttl_ms)
        with self._writing(now_ms):
            self._connection.executemany(_SET, [(key, expires_ms, value) for key, value in values.items()])

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """See `KeyValueStore.delete_many`."""
        now_ms = self._clock.now_ms()
        n_held = 0
        with self._writing(now_ms):
            for key in keys:
                n_held += self._get(key, now_ms) is not None
                self._connection.execute("DELETE FROM held WHERE key = ?", (key,))
        return n_held

    def compare_and_set(self, changes: Sequence[Change], *, ttl_ms: int | None = None) -> list[bool]:
        """See `KeyValueStore.compare_and_set`."""
        now_ms = self._clock.now_ms()
        expires_ms = expiry_ms(now_ms, ttl_ms)
        answers: list[bool] = []
        with self._writing(now_ms):
            for change in changes:
                is_as_expected = self._get(change.key, now_ms) == change.expected
                answers.append(is_as_expected)
                if is_as_expected and change.value is None:
                    self._connection.execute("DELETE FROM held WHERE key = ?", (change.key,))
                elif is_as_expected:
                    self._connection.execute(_SET, (change.key, expires_ms, change.value))
        return answers

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `KeyValueStore.scan`; a page of rows at a time, so that nobody waits for it."""
        now_ms = self._clock.now_ms()
        # Keys with a prefix are those from it up to the next bytes that do not have it.
        select = f"SELECT key, value FROM held WHERE key >= ? AND {_IS_ALIVE} ORDER BY key LIMIT ?"  # noqa: S608
        first = prefix
        while True:
            with self._lock, self._errors():
                rows = self._connection.execute(select, (first, now_ms, _ROWS_PER_PAGE)).fetchall()
            for key, value in rows:
                if not key.startswith(prefix):
                    return
                yield key, value
            if len(rows) < _ROWS_PER_PAGE:
                return
            first = rows[-1][0] + b"\0"

    def close(self) -> None:
        """See `KeyValueStore.close`."""
        with self._lock:
            self._connection.close()

    def _get(self, key: bytes, now_ms: int) -> bytes | None:
        select = f"SELECT value FROM held WHERE key = ? AND {_IS_ALIVE}"  # noqa: S608 - our own words
        found = self._connection.execute(select, (key, now_ms)).fetchone()
        return None if found is None else bytes(found[0])

    @contextmanager
    def _writing(self, now_ms: int) -> Iterator[None]:
        with self._lock, self._errors(), transaction(self._connection):
            if now_ms >= self._next_sweep_ms:
                self._next_sweep_ms = now_ms + SWEEP_EVERY_MS
                self._connection.execute(
                    "DELETE FROM held WHERE key IN (SELECT key FROM held WHERE expires_ms <= ? LIMIT ?)",
                    (now_ms, _SWEPT_AT_ONCE),
                )
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                "key-value file",
                value=str(self._path),
                problem=f"did not do as asked ({error})",
                remedy="check the disk, its quota and the file's permissions, then try again",
            ) from error
