"""`SqliteClaims`: claims, kept pages and limits shared by all processes of one machine, through two SQLite files.

Claims must outlive everything, a power cut too: each commit waits for the disk (``synchronous=FULL``). Kept pages and
limits live for minutes and stand in a file of their own, whose commits do not wait. Both files are in WAL mode, so
reads wait for nobody, and what is deleted is overwritten.

A viewer's claims are a few rows, each a block of claims as `millrace.stores.claim_sets` has them: every page adds
one, and from time to time they are written anew as one, without what has run out.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from millrace.base.errors import StoreError
from millrace.base.ids import Int64Array
from millrace.stores.claim_sets import EXPIRES, N_WORDS, NO_CLAIMS, Asked, decide, live_claims, without_owner
from millrace.stores.claims import SWEEP_EVERY_MS, BoolArray, Claimed, spent
from millrace.stream.sqlite_file import switch_to_wal, transaction

_BUSY_TIMEOUT_S: Final = 5.0
_MAX_BLOCKS: Final = 32
_SWEPT_AT_ONCE: Final = 1_000
_FORMAT: Final = 3  # 1 had a row a claim, and claims that lived for minutes; 2 had no budgets

_CLAIMS_SCHEMA: Final = (
    "DROP TABLE IF EXISTS claims",  # of format 1
    "DROP TABLE IF EXISTS takes",
    """CREATE TABLE IF NOT EXISTS claimed (
         viewer_id INTEGER NOT NULL,
         block INTEGER NOT NULL,
         expires_ms INTEGER NOT NULL,  -- of the claim that holds longest
         claims BLOB NOT NULL,         -- four int64 each
         PRIMARY KEY (viewer_id, block)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS claimed_by_end ON claimed (expires_ms)",
    "CREATE TABLE IF NOT EXISTS floors (viewer_id INTEGER PRIMARY KEY, floor_ms INTEGER NOT NULL)",
)
_PAGES_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS pages (
         viewer_id INTEGER NOT NULL, key TEXT NOT NULL, expires_ms INTEGER NOT NULL, page BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS pages_by_key ON pages (viewer_id, key)",
    "CREATE INDEX IF NOT EXISTS pages_by_end ON pages (expires_ms)",
    "CREATE TABLE IF NOT EXISTS takes (key TEXT NOT NULL, taken_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS takes_by_key ON takes (key, taken_ms)",
    "CREATE TABLE IF NOT EXISTS budgets (key TEXT PRIMARY KEY, full_ms REAL NOT NULL) WITHOUT ROWID",
)


class SqliteClaims:
    """See `millrace.stores.claims.ClaimStore`.

    Parameters
    ----------
    path
        The file of the claims; made with its folder where missing. Pages and limits go to ``pages.db`` beside it.

    Raises
    ------
    StoreError
        If a file cannot be used, or stays locked for five seconds.
    """

    is_remote = False

    def __init__(self, path: Path) -> None:
        self._claims = _File(path, _CLAIMS_SCHEMA, synchronous="FULL")
        try:
            self._pages = _File(path.with_name("pages.db"), _PAGES_SCHEMA, synchronous="NORMAL")
        except StoreError:
            self._claims.close()
            raise
        self._next_sweep_ms = self._next_pages_sweep_ms = self._next_budgets_sweep_ms = 0

    def claimed(self, viewer_id: int, now_ms: int) -> Claimed:
        """See `ClaimStore.claimed`."""
        # Claims first: what is let go meanwhile is below the floor that is read after them.
        blocks = self._claims.read("SELECT claims FROM claimed WHERE viewer_id = ?", (viewer_id,))
        floors = self._claims.read("SELECT floor_ms FROM floors WHERE viewer_id = ?", (viewer_id,))
        floor_ms = int(floors[0][0]) if floors else 0
        held = live_claims(_array([data for (data,) in blocks]), floor_ms, now_ms)
        return Claimed(held[:, 0].copy(), floor_ms)

    def claim(
        self,
        viewer_id: int,
        content_ids: Int64Array,
        created_ms: Int64Array,
        *,
        owner: str,
        now_ms: int,
        ttl_ms: int,
        max_claims: int,
    ) -> BoolArray:
        """See `ClaimStore.claim`."""
        asked = Asked(content_ids, created_ms, owner, now_ms, now_ms + ttl_ms, max_claims)
        with self._claims.writing() as db:
            if now_ms >= self._next_sweep_ms:
                self._next_sweep_ms = now_ms + SWEEP_EVERY_MS
                _sweep_claims(db, now_ms)
            held, last_block, n_blocks = _load(db, viewer_id)
            found = db.execute("SELECT floor_ms FROM floors WHERE viewer_id = ?", (viewer_id,)).fetchone()
            floor_ms = int(found[0]) if found else 0
            decision = decide(held, floor_ms, asked)
            if decision.floor_ms != floor_ms:
                db.execute("INSERT OR REPLACE INTO floors VALUES (?, ?)", (viewer_id, decision.floor_ms))
            if decision.gives_back or (decision.n_new and n_blocks >= _MAX_BLOCKS):
                _replace(db, viewer_id, decision.held)
            elif decision.n_new:
                _insert(db, viewer_id, last_block + 1, decision.held[-decision.n_new :])
        return decision.granted

    def release(self, viewer_id: int, owner: str) -> None:
        """See `ClaimStore.release`."""
        with self._claims.writing() as db:
            held, _, _ = _load(db, viewer_id)
            others = without_owner(held, owner)
            if len(others) < len(held):
                _replace(db, viewer_id, others)

    def keep_page(self, viewer_id: int, key: str, page: bytes, *, now_ms: int, ttl_ms: int) -> bytes:
        """See `ClaimStore.keep_page`."""
        with self._pages.writing() as db:
            self._sweep_pages(db, now_ms)
            found = db.execute(
                "SELECT page FROM pages WHERE viewer_id = ? AND key = ? AND expires_ms > ?", (viewer_id, key, now_ms)
            ).fetchone()
            if found is not None:
                return bytes(found[0])
            db.execute("INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?)", (viewer_id, key, now_ms + ttl_ms, page))
        return page

    def page(self, viewer_id: int, key: str, now_ms: int) -> bytes | None:
        """See `ClaimStore.page`."""
        found = self._pages.read(
            "SELECT page FROM pages WHERE viewer_id = ? AND key = ? AND expires_ms > ?", (viewer_id, key, now_ms)
        )
        return bytes(found[0][0]) if found else None

    def take(self, key: str, limit: int, window_ms: int, now_ms: int) -> bool:
        """See `ClaimStore.take`."""
        with self._pages.writing() as db:
            self._sweep_pages(db, now_ms)
            db.execute("DELETE FROM takes WHERE key = ? AND taken_ms <= ?", (key, now_ms - window_ms))
            (n_taken,) = db.execute("SELECT count(*) FROM takes WHERE key = ?", (key,)).fetchone()
            if n_taken >= limit:
                return False
            db.execute("INSERT INTO takes VALUES (?, ?, ?)", (key, now_ms, now_ms + window_ms))
        return True

    def spend(self, key: str, n: int, *, per_s: float, burst: int, now_ms: int) -> int:
        """See `ClaimStore.spend`."""
        with self._pages.writing() as db:
            if now_ms >= self._next_budgets_sweep_ms:
                self._next_budgets_sweep_ms = now_ms + SWEEP_EVERY_MS
                db.execute("DELETE FROM budgets WHERE full_ms <= ?", (now_ms,))  # full is what none is, too
            found = db.execute("SELECT full_ms FROM budgets WHERE key = ?", (key,)).fetchone()
            wait_ms, full_ms = spent(found[0] if found else 0.0, n, per_s=per_s, burst=burst, now_ms=now_ms)
            if not wait_ms:
                db.execute("INSERT OR REPLACE INTO budgets VALUES (?, ?)", (key, full_ms))
        return wait_ms

    def forget(self, user_id: int) -> None:
        """See `ClaimStore.forget`."""
        with self._claims.writing() as db:
            db.execute("DELETE FROM claimed WHERE viewer_id = ?", (user_id,))
            db.execute("DELETE FROM floors WHERE viewer_id = ?", (user_id,))
        with self._pages.writing() as db:
            db.execute("DELETE FROM pages")
        self._claims.clean_up()
        self._pages.clean_up()

    def close(self) -> None:
        """Close the files; what they hold stays."""
        self._claims.close()
        self._pages.close()

    def _sweep_pages(self, db: sqlite3.Connection, now_ms: int) -> None:
        if now_ms >= self._next_pages_sweep_ms:
            self._next_pages_sweep_ms = now_ms + SWEEP_EVERY_MS
            for table in ("pages", "takes"):
                db.execute(f"DELETE FROM {table} WHERE expires_ms <= ?", (now_ms,))  # noqa: S608 - our own names


class _File:
    """One SQLite file: a connection that writes and one that reads, so that reads never wait for a commit."""

    def __init__(self, path: Path, schema: tuple[str, ...], *, synchronous: str) -> None:
        self._path = path
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors("opened"):
            self._writer = self._connect(synchronous)
            try:
                if self._writer.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
                    with transaction(self._writer):
                        for statement in schema:
                            self._writer.execute(statement)
                        self._writer.execute(f"PRAGMA user_version = {_FORMAT}")
                self._reader = self._connect(synchronous)
            except sqlite3.Error:
                self._writer.close()
                raise

    def read(self, statement: str, args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._read_lock, self._errors("read"):
            return self._reader.execute(statement, args).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one writing transaction."""
        with self._write_lock, self._errors("written"), transaction(self._writer):
            yield self._writer

    def clean_up(self) -> None:
        """Empty the write-ahead log: it holds what was deleted. Best done once more later, if readers hold it now."""
        with self._write_lock, self._errors("cleaned up"):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close both connections."""
        with self._write_lock, closing(self._writer):
            pass
        with self._read_lock, closing(self._reader):
            pass

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            switch_to_wal(db)
            db.execute(f"PRAGMA synchronous = {synchronous}")
            db.execute("PRAGMA secure_delete = ON")
        except sqlite3.Error:
            db.close()
            raise
        return db

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                "claims file",
                value=str(self._path),
                problem=f"could not be {done} ({error})",
                remedy="check the disk, its room and that no other program holds the file; if it is damaged, restore "
                "it from a backup, or remove it while nothing runs: viewers may then get posts once more",
            ) from error


def _array(blocks: list[bytes]) -> Int64Array:
    if not blocks:
        return NO_CLAIMS
    return np.frombuffer(b"".join(blocks), dtype=np.int64).reshape(-1, N_WORDS)


def _load(db: sqlite3.Connection, viewer_id: int) -> tuple[Int64Array, int, int]:
    """Return a viewer's claims, the number of the last block (-1 for none), and how many blocks there are."""
    rows = db.execute("SELECT block, claims FROM claimed WHERE viewer_id = ? ORDER BY block", (viewer_id,)).fetchall()
    return _array([data for _, data in rows]), rows[-1][0] if rows else -1, len(rows)


def _insert(db: sqlite3.Connection, viewer_id: int, block: int, claims: Int64Array) -> None:
    row = (viewer_id, block, int(claims[:, EXPIRES].max()), claims.tobytes())
    db.execute("INSERT INTO claimed VALUES (?, ?, ?, ?)", row)


def _replace(db: sqlite3.Connection, viewer_id: int, claims: Int64Array) -> None:
    db.execute("DELETE FROM claimed WHERE viewer_id = ?", (viewer_id,))
    if len(claims):
        _insert(db, viewer_id, 0, claims)


def _sweep_claims(db: sqlite3.Connection, now_ms: int) -> None:
    db.execute(
        "DELETE FROM claimed WHERE (viewer_id, block) IN "
        "(SELECT viewer_id, block FROM claimed WHERE expires_ms <= ? LIMIT ?)",
        (now_ms, _SWEPT_AT_ONCE),
    )
