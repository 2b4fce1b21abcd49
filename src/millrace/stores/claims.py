"""Claims and limits: the little that must be atomic across workers, kept outside the replicas.

Two requests of one viewer may run in two workers at once; each claims the posts of its page before it answers, so
that no post is shown by both. A claim runs out by itself, so a worker that dies holds nothing for long. Limits
count in the same store, so that a client cannot have one limit per worker.

Here: the `ClaimStore` contract, `MemoryClaims` (one process) and `SqliteClaims` (all processes of one machine, the
default). `millrace.stores.redis_claims` serves several machines. Shared suite: `millrace.testing.claims_contract`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.errors import StoreError
from millrace.base.ids import Int64Array

BoolArray = npt.NDArray[np.bool_]

_SWEEP_EVERY_MS: Final = 60_000
_BUSY_TIMEOUT_S: Final = 5.0


class ClaimStore(Protocol):
    """Claims of (viewer, post) pairs by owners, and sliding limits; every call is atomic across all users of it.

    Time is the caller's (``now_ms``), so that virtual time works. Safe to call from several threads.
    """

    def claim(self, viewer_id: int, post_ids: Int64Array, *, owner: str, now_ms: int, ttl_ms: int) -> BoolArray:
        """Claim posts for a page of one viewer and return which were granted, shape (n,), bool.

        A post is refused while another owner's claim on it holds. An owner's own claim is granted again and
        renewed. A claim holds until ``now_ms + ttl_ms``.
        """

    def release(self, owner: str) -> int:
        """Drop all claims of an owner; return how many there were."""

    def take(self, key: str, limit: int, window_ms: int, now_ms: int) -> bool:
        """Take one of ``limit`` in the sliding window of ``window_ms`` that ends now; False if none is left.

        Exact: no window of that length ever holds more than ``limit`` grants. A refused take costs nothing.
        """

    def close(self) -> None:
        """Release what the store holds; claims stay until they run out."""


class MemoryClaims:
    """Claims within one process: for tests, simulations and single-process servers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[int, dict[int, tuple[str, int]]] = {}
        self._viewers_by_owner: dict[str, set[int]] = {}
        self._grants: dict[str, deque[int]] = {}
        self._next_sweep_ms = 0

    def claim(self, viewer_id: int, post_ids: Int64Array, *, owner: str, now_ms: int, ttl_ms: int) -> BoolArray:
        """See `ClaimStore.claim`."""
        granted = np.ones(len(post_ids), dtype=np.bool_)
        with self._lock:
            self._sweep(now_ms)
            held = self._claims.setdefault(viewer_id, {})
            for row, post_id in enumerate(post_ids.tolist()):
                holder, expires_ms = held.get(post_id, (owner, 0))
                if holder != owner and expires_ms > now_ms:
                    granted[row] = False
                else:
                    held[post_id] = (owner, now_ms + ttl_ms)
            self._viewers_by_owner.setdefault(owner, set()).add(viewer_id)
        return granted

    def release(self, owner: str) -> int:
        """See `ClaimStore.release`."""
        n_released = 0
        with self._lock:
            for viewer_id in self._viewers_by_owner.pop(owner, set()):
                held = self._claims.get(viewer_id, {})
                for post_id in [post_id for post_id, (holder, _) in held.items() if holder == owner]:
                    del held[post_id]
                    n_released += 1
        return n_released

    def take(self, key: str, limit: int, window_ms: int, now_ms: int) -> bool:
        """See `ClaimStore.take`."""
        with self._lock:
            grants = self._grants.setdefault(key, deque())
            while grants and grants[0] <= now_ms - window_ms:
                grants.popleft()
            if len(grants) >= limit:
                return False
            grants.append(now_ms)
        return True

    def close(self) -> None:
        """Nothing to release."""

    def _sweep(self, now_ms: int) -> None:
        if now_ms < self._next_sweep_ms:
            return
        self._next_sweep_ms = now_ms + _SWEEP_EVERY_MS
        for viewer_id, held in list(self._claims.items()):
            live = {post_id: value for post_id, value in held.items() if value[1] > now_ms}
            if live:
                self._claims[viewer_id] = live
            else:
                del self._claims[viewer_id]
        holders = {(owner, viewer) for viewer, held in self._claims.items() for owner, _ in held.values()}
        live_viewers: dict[str, set[int]] = {}
        for owner, viewer_id in holders:
            live_viewers.setdefault(owner, set()).add(viewer_id)
        self._viewers_by_owner = live_viewers
        self._grants = {key: grants for key, grants in self._grants.items() if grants}


_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS claims (
  viewer_id INTEGER NOT NULL, post_id INTEGER NOT NULL, owner TEXT NOT NULL, expires_ms INTEGER NOT NULL,
  PRIMARY KEY (viewer_id, post_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_by_owner ON claims (owner);
CREATE TABLE IF NOT EXISTS takes (key TEXT NOT NULL, taken_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS takes_by_key ON takes (key, taken_ms);
"""


class SqliteClaims:
    """Claims shared by all processes of one machine through one SQLite file.

    Every call is one write transaction. Claims live for seconds and mean nothing after a crash of the machine, so
    commits do not wait for the disk (``synchronous=OFF``); a crash of a process loses nothing.

    Parameters
    ----------
    path
        The file; created with its folder where missing.

    Raises
    ------
    StoreError
        If the file cannot be used, or stays locked for five seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._next_sweep_ms = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise self._failed("opened", error) from error

    def claim(self, viewer_id: int, post_ids: Int64Array, *, owner: str, now_ms: int, ttl_ms: int) -> BoolArray:
        """See `ClaimStore.claim`."""
        posts: list[int] = post_ids.tolist()
        with self._lock, _Transaction(self) as db:
            if now_ms >= self._next_sweep_ms:
                self._next_sweep_ms = now_ms + _SWEEP_EVERY_MS
                db.execute("DELETE FROM claims WHERE expires_ms <= ?", (now_ms,))
                db.execute("DELETE FROM takes WHERE expires_ms <= ?", (now_ms,))
            refused = {
                post_id
                for (post_id,) in db.execute(
                    "SELECT post_id FROM claims WHERE viewer_id = ? AND expires_ms > ? AND owner <> ?",
                    (viewer_id, now_ms, owner),
                )
            }
            db.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)",
                [(viewer_id, post_id, owner, now_ms + ttl_ms) for post_id in posts if post_id not in refused],
            )
        return np.array([post_id not in refused for post_id in posts], dtype=np.bool_)

    def release(self, owner: str) -> int:
        """See `ClaimStore.release`."""
        with self._lock, _Transaction(self) as db:
            return db.execute("DELETE FROM claims WHERE owner = ?", (owner,)).rowcount

    def take(self, key: str, limit: int, window_ms: int, now_ms: int) -> bool:
        """See `ClaimStore.take`."""
        with self._lock, _Transaction(self) as db:
            db.execute("DELETE FROM takes WHERE key = ? AND taken_ms <= ?", (key, now_ms - window_ms))
            (n_taken,) = db.execute("SELECT count(*) FROM takes WHERE key = ?", (key,)).fetchone()
            if n_taken >= limit:
                return False
            db.execute("INSERT INTO takes VALUES (?, ?, ?)", (key, now_ms, now_ms + window_ms))
        return True

    def close(self) -> None:
        """Close the connection; claims stay in the file until they run out."""
        with self._lock:
            self._db.close()

    def _failed(self, what: str, error: sqlite3.Error) -> StoreError:
        return StoreError(
            "claims file",
            value=str(self._path),
            problem=f"could not be {what} ({error})",
            remedy="check the disk and that no other program holds the file; it may be deleted while nothing runs",
        )


class _Transaction:
    """One immediate (writing) transaction, rolled back on any error."""

    def __init__(self, store: SqliteClaims) -> None:
        self._store = store

    def __enter__(self) -> sqlite3.Connection:
        db = self._store._db  # noqa: SLF001 - the two are one thing in two classes
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._store._failed("locked for writing", error) from error  # noqa: SLF001
        return db

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        db = self._store._db  # noqa: SLF001
        try:
            db.execute("COMMIT" if kind is None else "ROLLBACK")
        except sqlite3.Error as failure:
            raise self._store._failed("written", failure) from failure  # noqa: SLF001
        if isinstance(error, sqlite3.Error):
            raise self._store._failed("written", error) from error  # noqa: SLF001
