"""The content store on a PostgreSQL server, shared by the machines of a feed. See `millrace.stores.content_database`.

All tables stand in a schema of their own. The writer holds an advisory lock on it as long as it lives, so that of two
keepers that were started by mistake the second is refused. It does not connect again by itself: what a broken
transaction has lost it hears anew from the log, after a start. A reader connects again, once, for each read.
Needs the ``postgres`` extra.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from millrace.base.backoff import Backoff
from millrace.base.clock import Clock, SystemClock
from millrace.base.errors import ConfigError, StoreError
from millrace.base.urls import hide_secrets, without_secrets
from millrace.stores.content_database import FORMAT_VERSION, Row, decode_position
from millrace.stream.log import Position, total

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Row]

ResultT = TypeVar("ResultT")

_LOCK_PATIENCE_S: Final = 10
_CONNECT_S: Final = 5
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 5.0
# "at" is the log offset, unique over all topics; text is kept as bytes, so that no collation is asked.
_SCHEMA: Final = """
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE posts (at bigint PRIMARY KEY, post_id bigint NOT NULL, author_id bigint NOT NULL, data bytea);
CREATE INDEX posts_by_id ON posts (post_id, at);
CREATE INDEX posts_by_author ON posts (author_id);
CREATE TABLE profiles (at bigint PRIMARY KEY, user_id bigint NOT NULL, data bytea NOT NULL);
CREATE INDEX profiles_by_id ON profiles (user_id, at);
CREATE TABLE users (user_id bigint PRIMARY KEY, text text NOT NULL);
CREATE TABLE stale (at bigint PRIMARY KEY, since bigint NOT NULL);
CREATE TABLE marks (position bigint PRIMARY KEY, at_ms bigint NOT NULL);
CREATE TABLE erasures (at bigint PRIMARY KEY, "user" text NOT NULL, posts text NOT NULL,
                       scanned_to bigint NOT NULL DEFAULT 0, purged_at bigint NOT NULL DEFAULT 0);
INSERT INTO meta VALUES ('format', 'FORMAT'), ('position', '[0]');
""".replace("FORMAT", str(FORMAT_VERSION))
# One statement sees one moment, so position and rows belong together without a transaction and its round trips.
_READ: Final = """
SELECT meta.value, found.id, found.data FROM meta LEFT JOIN (
  SELECT DISTINCT ON ({key}) {key} AS id, data FROM {table} WHERE {key} = ANY(%s::bigint[]) AND at < %s
  ORDER BY {key}, at DESC
) AS found ON true WHERE meta.name = 'position'
"""
_READ_POSTS: Final = _READ.format(key="post_id", table="posts")
_READ_PROFILES: Final = _READ.format(key="user_id", table="profiles")


class PostgresContentWrites:
    """See `ContentWrites`.

    Parameters
    ----------
    url
        ``"postgresql://user:password@host:port/database"``.
    schema
        Where the tables are; made with them where missing.

    Raises
    ------
    ConfigError
        If the ``psycopg`` package is not installed.
    StoreError
        If the server does not do as asked, another writer holds the schema, or its tables are of another format.
    """

    def __init__(self, url: str, schema: str = "millrace_content") -> None:
        self._server = _Server(url, schema)
        self._connection = self._server.connect(timeout_s=None)
        try:
            self._lock(schema)
            with self._server.errors():
                self._make(schema)
            _check_format(self._connection, self._server.name)
        except BaseException:
            self._connection.close()
            raise

    def position(self) -> Position:
        """See `ContentWrites.position`."""
        return decode_position(self.run("SELECT value FROM meta WHERE name = 'position'")[0][0])

    def run(self, sql: str, args: Sequence[Any] = ()) -> list[Row]:
        """See `ContentWrites.run`."""
        with self._server.errors(), self._connection.cursor(binary=True) as cursor:
            cursor.execute(_translated(sql), args)
            return cursor.fetchall() if cursor.description else []

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """See `ContentWrites.run_many`."""
        if rows:
            with self._server.errors(), self._connection.cursor() as cursor:
                cursor.executemany(_translated(sql), rows)

    def select_in(self, head: str, ids: Sequence[int], tail: str = "") -> list[Row]:
        """See `ContentWrites.select_in`."""
        return self.run(f"{head} = ANY(?::bigint[]) {tail}", (list(ids),)) if len(ids) else []

    def mentioning(self, text: bytes) -> list[Row]:
        """See `ContentWrites.mentioning`."""
        return self.run("SELECT at, data FROM posts WHERE position(?::bytea IN data) > 0", (text,))

    def begin(self) -> None:
        """See `ContentWrites.begin`."""
        self.run("BEGIN")

    def commit(self) -> None:
        """See `ContentWrites.commit`: as durable as the server's ``synchronous_commit`` says."""
        self.run("COMMIT")

    def rollback(self) -> None:
        """See `ContentWrites.rollback`."""
        self.run("ROLLBACK")

    def flush(self) -> None:
        """See `ContentWrites.flush`: a commit that waits for the disk waits for all those before it."""
        self.begin()
        self.run("SET LOCAL synchronous_commit = on")
        self.run("UPDATE meta SET value = value WHERE name = 'position'")
        self.commit()

    def clean(self) -> None:
        """See `ContentWrites.clean`: the room of deleted rows becomes free to be overwritten."""
        for table in ("posts", "profiles", "users", "erasures"):
            self.run(f"VACUUM {table}")

    def close(self) -> None:
        """See `ContentWrites.close`: the server ends the transaction and the lock with the connection."""
        self._connection.close()

    def _lock(self, schema: str) -> None:
        # A keeper that was just killed may not have ended for the server yet: wait a moment.
        self.run(f"SET lock_timeout = '{_LOCK_PATIENCE_S}s'")
        key = f"millrace content {schema}"
        try:
            self.run("SELECT pg_advisory_lock(hashtextextended(?, 0))", (key,))
        except StoreError as error:
            raise StoreError(
                "content server",
                value=self._server.name,
                problem=f"cannot be had for writing ({error.problem})",
                remedy="stop the other keeper that writes there, or give each feed a content_store.schema of its own",
            ) from error
        self.run("SET lock_timeout = 0")

    def _make(self, schema: str) -> None:
        self.begin()
        self.run(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
        if not self.run("SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = 'meta'", (schema,)):
            for statement in filter(None, map(str.strip, _SCHEMA.split(";"))):
                self.run(statement)
        self.commit()


class PostgresContentReads:
    """See `ContentReads`; any number of threads may read, one after the other.

    Parameters
    ----------
    url, schema
        As for `PostgresContentWrites`.
    timeout_s
        The longest that the server may work on one read.
    clock
        Gives real time: a server that cannot be reached is left alone for a moment.
    """

    is_remote = True

    def __init__(
        self, url: str, schema: str = "millrace_content", *, timeout_s: float = 1.0, clock: Clock | None = None
    ) -> None:
        self._server = _Server(url, schema)
        self._timeout_s = timeout_s
        self._rest = Backoff(clock or SystemClock(), _FIRST_REST_S, _LONGEST_REST_S)
        self._opened: Connection | None = None
        self._lock = threading.Lock()

    def position(self) -> Position:
        """See `ContentReads.position`."""
        rows = self._rows("SELECT value FROM meta WHERE name = 'position'", ())
        return decode_position(rows[0][0]) if rows else (0,)

    def posts(self, ids: Sequence[int], stop: int) -> tuple[int, dict[int, bytes | None]]:
        """See `ContentReads.posts`."""
        return self._read(_READ_POSTS, ids, stop)

    def profiles(self, ids: Sequence[int], stop: int) -> tuple[int, dict[int, bytes]]:
        """See `ContentReads.profiles`."""
        return self._read(_READ_PROFILES, ids, stop)

    def user_texts(self, ids: Sequence[int]) -> dict[int, str]:
        """See `ContentReads.user_texts`."""
        if not len(ids):
            return {}
        return dict(self._rows("SELECT user_id, text FROM users WHERE user_id = ANY(%s::bigint[])", (list(ids),)))

    def close(self) -> None:
        """See `ContentReads.close`."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _read(self, sql: str, ids: Sequence[int], stop: int) -> tuple[int, dict[int, Any]]:
        rows = self._rows(sql, (list(ids), stop))
        if not rows:
            return 0, {}
        return total(decode_position(rows[0][0])), {key: data for _, key, data in rows if key is not None}

    def _rows(self, sql: str, args: tuple[Any, ...]) -> list[Row]:
        def ask(connection: Connection) -> list[Row]:
            with connection.cursor(binary=True) as cursor:
                return cursor.execute(sql, args).fetchall()

        return self._asked(ask) or []

    def _asked(self, ask: Callable[[Connection], ResultT]) -> ResultT | None:
        """Return the answer; None as long as the writer has not made its tables."""
        import psycopg

        with self._lock, self._server.errors():
            for may_retry in (True, False):
                connection = self._connection()
                if connection is None:
                    return None
                try:
                    return ask(connection)
                except psycopg.OperationalError:
                    # A connection that the server closed (it was started again) is told at the next use of it; one
                    # that is whole only waited too long.
                    if not connection.broken or not may_retry:
                        raise
                    self._opened = None
        raise AssertionError  # the second turn returns or raises

    def _connection(self) -> Connection | None:
        if self._opened is None:
            if self._rest.left_s > 0:
                raise self._server.error("cannot be reached, and is tried again in a moment")
            try:
                connection = self._server.connect(self._timeout_s)
            except StoreError:
                self._rest.fail()
                raise
            self._rest.succeed()
            try:
                is_made = connection.execute("SELECT to_regclass('meta') IS NOT NULL").fetchone()
                if is_made != (True,):
                    connection.close()
                    return None
                _check_format(connection, self._server.name)
            except BaseException:
                connection.close()
                raise
            self._opened = connection
        return self._opened


class _Server:
    """Where the tables are, and how its errors are told."""

    def __init__(self, url: str, schema: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError(
                "content in postgres",
                value=without_secrets(url),
                problem="the psycopg package is not installed",
                remedy="pip install -e '.[postgres]'",
            ) from error
        self._url = url
        self._schema = schema
        self._error: type[Exception] = psycopg.Error
        self.name = f"{without_secrets(url) if '://' in url else '***'} schema {schema}"

    def connect(self, timeout_s: float | None) -> Connection:
        import psycopg

        with self.errors():
            connection: Connection = psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_S)
            try:
                connection.execute(f"SET search_path TO {_quoted(self._schema)}".encode())
                timeout_ms = 0 if timeout_s is None else max(1, round(timeout_s * 1_000))
                connection.execute(f"SET statement_timeout = {timeout_ms}".encode())
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self.error(f"did not do as asked ({hide_secrets(lines[0], self._url)})") from error

    def error(self, problem: str) -> StoreError:
        return StoreError(
            "content server",
            value=self.name,
            problem=problem,
            remedy="start it, or correct content_store.postgres_url and the rights of its user",
        )


def _check_format(connection: Connection, name: str) -> None:
    found = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if found != (str(FORMAT_VERSION),):
        raise StoreError(
            "content store",
            value=name,
            problem=f"has format {found and found[0]}, this version of Millrace reads {FORMAT_VERSION}",
            remedy="run the version that wrote it, or drop the schema and let it be folded anew from the log",
        )


def _translated(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
