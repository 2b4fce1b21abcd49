"""The content store in one SQLite file: of one machine, and the default. See `millrace.stores.content_database`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from millrace.base.errors import StoreError
from millrace.stores.content_database import FORMAT_VERSION, Row, decode_position
from millrace.stream.log import Position, total

_IDS_PER_QUERY: Final = 500
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE posts (at INTEGER PRIMARY KEY, post_id INTEGER NOT NULL, author_id INTEGER NOT NULL, data BLOB);
CREATE INDEX posts_by_id ON posts (post_id);
CREATE TABLE profiles (at INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX profiles_by_id ON profiles (user_id);
CREATE TABLE users (user_id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE stale (at INTEGER PRIMARY KEY, since INTEGER NOT NULL);
CREATE TABLE marks (position INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL);
CREATE TABLE erasures (at INTEGER PRIMARY KEY, user TEXT NOT NULL, posts TEXT NOT NULL,
                       scanned_to INTEGER NOT NULL DEFAULT 0, purged_at INTEGER NOT NULL DEFAULT 0);
INSERT INTO meta VALUES ('format', 'FORMAT'), ('position', '[0]');
""".replace("FORMAT", str(FORMAT_VERSION))


class SqliteContentWrites:
    """See `ContentWrites`.

    Parameters
    ----------
    path
        The file; made with its folder where missing.

    Raises
    ------
    StoreError
        If the file cannot be opened or is of another format.
    """

    def __init__(self, path: Path) -> None:
        self._connection = _connect(path, is_writer=True)

    def position(self) -> Position:
        """See `ContentWrites.position`."""
        return _read_position(self._connection)

    def run(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        """See `ContentWrites.run`."""
        return self._connection.execute(sql, args).fetchall()

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """See `ContentWrites.run_many`."""
        self._connection.executemany(sql, rows)

    def select_in(self, head: str, ids: Sequence[int], tail: str = "") -> Iterator[Row]:
        """See `ContentWrites.select_in`: asks for a bounded number of ids at a time."""
        return _select_in(self._connection, head, ids, tail)

    def mentioning(self, text: bytes) -> list[Row]:
        """See `ContentWrites.mentioning`."""
        return self.run("SELECT at, data FROM posts WHERE instr(data, ?) > 0", (text,))

    def begin(self) -> None:
        """See `ContentWrites.begin`."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """See `ContentWrites.commit`."""
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """See `ContentWrites.rollback`."""
        self._connection.execute("ROLLBACK")

    def flush(self) -> None:
        """See `ContentWrites.flush`."""
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("UPDATE meta SET value = value WHERE name = 'position'")
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def clean(self) -> None:
        """See `ContentWrites.clean`: deleted rows are overwritten at once, and this empties the WAL file."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """See `ContentWrites.close`."""
        self._connection.close()


class SqliteContentReads:
    """See `ContentReads`; the file need not be there yet.

    Parameters
    ----------
    path
        The keeper's file.
    """

    is_remote = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = None

    def position(self) -> Position:
        """See `ContentReads.position`."""
        connection = self._connection()
        return (0,) if connection is None else _read_position(connection)

    def posts(self, ids: Sequence[int], stop: int) -> tuple[int, dict[int, bytes | None]]:
        """See `ContentReads.posts`."""
        return self._read("SELECT post_id, data FROM posts WHERE post_id", ids, stop)

    def profiles(self, ids: Sequence[int], stop: int) -> tuple[int, dict[int, bytes]]:
        """See `ContentReads.profiles`."""
        return self._read("SELECT user_id, data FROM profiles WHERE user_id", ids, stop)

    def user_texts(self, ids: Sequence[int]) -> dict[int, str]:
        """See `ContentReads.user_texts`."""
        connection = self._connection()
        if connection is None or not ids:
            return {}
        return dict(_select_in(connection, "SELECT user_id, text FROM users WHERE user_id", ids))

    def close(self) -> None:
        """See `ContentReads.close`."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _connection(self) -> sqlite3.Connection | None:
        """Return the file's connection; None as long as the keeper has not made the file."""
        if self._opened is None and self._path.exists():
            with sqlite3.connect(f"file:{self._path}?mode=ro", uri=True) as probe:
                is_made = probe.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
            probe.close()
            if is_made:
                self._opened = _connect(self._path, is_writer=False)
        return self._opened

    def _read(self, select: str, ids: Sequence[int], stop: int) -> tuple[int, dict[int, Any]]:
        connection = self._connection()
        if connection is None:
            return 0, {}
        connection.execute("BEGIN")
        try:
            start = total(_read_position(connection))
            # Newest last: of the rows of one id, the dictionary keeps that one.
            rows: dict[int, Any] = dict(_select_in(connection, select, ids, "AND at < ? ORDER BY at", (stop,)))
        finally:
            connection.execute("COMMIT")
        return start, rows


def _connect(path: Path, *, is_writer: bool) -> sqlite3.Connection:
    try:
        if is_writer:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # `flush` makes it durable
            connection.execute("PRAGMA secure_delete = ON")  # erased text leaves the file, not just the index
            connection.execute("PRAGMA cache_size = -65536")
            if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        else:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=30.0)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA cache_size = -16384")  # the upper pages of every index stay at hand
        found = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    except sqlite3.Error as error:
        raise StoreError(
            "content store",
            value=str(path),
            problem=f"cannot be opened ({error})",
            remedy="start the keeper first; if the file is damaged, remove it or restore it from a backup",
        ) from error
    if found is None or found[0] != str(FORMAT_VERSION):
        connection.close()
        raise StoreError(
            "content store",
            value=str(path),
            problem=f"has format {found and found[0]}, this version of Millrace reads {FORMAT_VERSION}",
            remedy="run the version that wrote it, or remove the file and let it be folded anew from the log",
        )
    return connection


def _read_position(connection: sqlite3.Connection) -> Position:
    """Return the log position as the connection's current snapshot has it."""
    return decode_position(connection.execute("SELECT value FROM meta WHERE name = 'position'").fetchone()[0])


def _select_in(
    connection: sqlite3.Connection, head: str, ids: Sequence[int], tail: str = "", args: tuple[Any, ...] = ()
) -> Iterator[Row]:
    for start in range(0, len(ids), _IDS_PER_QUERY):
        some = ids[start : start + _IDS_PER_QUERY]
        marks = ",".join("?" * len(some))
        yield from connection.execute(f"{head} IN ({marks}) {tail}", (*some, *args))
