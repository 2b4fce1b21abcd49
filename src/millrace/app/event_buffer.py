"""`EventBuffer`: events on disk that wait to be sent, oldest first; a SQLite file that outlives its program."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from millrace.base.errors import StoreError


class EventBuffer:
    """A bounded queue. Safe to use from several threads; one program at a time.

    Parameters
    ----------
    path
        The file; made with its folder where missing.
    max_bytes
        Of events; beyond it the oldest are dropped. The file is somewhat larger.

    Attributes
    ----------
    n_dropped
        Since it was opened.

    Raises
    ------
    StoreError
        If the file cannot be used, or another program has it.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.n_dropped = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            # A killed program loses nothing; a power cut may take the last moment.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL)"
            )
            self._n, self._n_bytes = self._db.execute(
                "SELECT count(*), coalesce(sum(length(event)), 0) FROM waiting"
            ).fetchone()
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(
                "event buffer",
                value=str(path),
                problem=f"cannot be used ({error})",
                remedy="give each program a file of its own, on a disk with room",
            ) from error

    def __len__(self) -> int:
        return int(self._n)

    def add(self, event: bytes) -> None:
        """Keep an event; it is in the file when this returns."""
        with self._lock:
            self._db.execute("INSERT INTO waiting (event) VALUES (?)", (event,))
            self._n += 1
            self._n_bytes += len(event)
            while self._n_bytes > self._max_bytes and self._n > 1:
                number, oldest = self._db.execute(
                    "SELECT number, event FROM waiting ORDER BY number LIMIT 1"
                ).fetchone()
                self._remove([number], len(oldest))
                self.n_dropped += 1

    def oldest(self, n: int) -> tuple[list[int], list[bytes]]:
        """Return the numbers and the events of the ``n`` that have waited longest."""
        with self._lock:
            rows = self._db.execute("SELECT number, event FROM waiting ORDER BY number LIMIT ?", (n,)).fetchall()
        return [number for number, _ in rows], [bytes(event) for _, event in rows]

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget events that were answered for; those that were dropped meanwhile are passed over."""
        with self._lock:
            known = [
                (number, size)
                for number in numbers
                for (size,) in self._db.execute("SELECT length(event) FROM waiting WHERE number = ?", (number,))
            ]
            self._remove([number for number, _ in known], sum(size for _, size in known))

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._db.close()

    def _remove(self, numbers: list[int], n_bytes: int) -> None:
        with self._db:  # where the disk is full, what was begun is taken back
            self._db.execute("BEGIN")
            self._db.executemany("DELETE FROM waiting WHERE number = ?", [(number,) for number in numbers])
        self._n -= len(numbers)
        self._n_bytes -= n_bytes
