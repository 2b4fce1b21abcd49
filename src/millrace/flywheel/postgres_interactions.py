"""The interactions in PostgreSQL: looks and actions of the last days, by user and by post, and what is trending.

A row is an impression or an action as the log tells it, undos too. The table is partitioned by day (UTC) of the events'
times; partitions are made ahead, and dropped by retention, without a reader waiting: a new one is attached, an old one
detached ``CONCURRENTLY``. Rows come from the warehouse's raw events by ``COPY``, in one transaction with the log offset
up to which they go: whatever kills a load, each row is there once. What was killed while it dropped a
day is finished by the next load or erasure.

``trending`` is a materialised view of the posts with more than `TRENDING_OVER` rows within 24 hours; it is refreshed
``CONCURRENTLY``, so nobody who reads it waits. Its hours end at the time that `refresh_trending` is told by the
injected clock: event time may be virtual.
Needs the ``postgres`` extra.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from millrace.base.clock import Clock
from millrace.base.errors import ConfigError, StoreError
from millrace.base.urls import hide_secrets, without_secrets
from millrace.events.codec import EventCodec
from millrace.events.feed_events import Engagement, Impression
from millrace.flywheel.raw_rows import events_view
from millrace.flywheel.tables.facts import FactReader
from millrace.flywheel.warehouse import Warehouse
from millrace.stream.log import total

if TYPE_CHECKING:
    import duckdb
    import psycopg

TRENDING_OVER: Final = 100
DAYS_AHEAD: Final = 3
_CONNECT_S: Final = 5
_STEP_RECORDS: Final = 200_000
_FETCHED: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS interactions (
    log_offset bigint NOT NULL,
    happened_at timestamptz NOT NULL,
    user_id text NOT NULL,
    post_id text NOT NULL,
    action text NOT NULL,
    is_undo boolean NOT NULL,
    watch_s double precision NOT NULL,
    amount double precision,
    request_id text,
    surface text
) PARTITION BY RANGE (happened_at);
CREATE INDEX IF NOT EXISTS interactions_by_user ON interactions (user_id, happened_at);
CREATE INDEX IF NOT EXISTS interactions_by_post ON interactions (post_id, happened_at);
CREATE TABLE IF NOT EXISTS progress (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,
    trending_until timestamptz NOT NULL
);
INSERT INTO progress (position, trending_until) VALUES (0, 'epoch') ON CONFLICT DO NOTHING;
CREATE MATERIALIZED VIEW IF NOT EXISTS trending AS
    SELECT post_id, count(*) AS n_interactions, count(*) FILTER (WHERE action = 'impression') AS n_impressions,
        count(DISTINCT user_id) AS n_users, sum(watch_s) AS watch_s, max(happened_at) AS last_at
    FROM interactions
    WHERE happened_at > (SELECT trending_until - interval '24 hours' FROM progress)
        AND happened_at <= (SELECT trending_until FROM progress) AND NOT is_undo
    GROUP BY post_id HAVING count(*) > {TRENDING_OVER};
CREATE UNIQUE INDEX IF NOT EXISTS trending_by_post ON trending (post_id);
"""  # noqa: S608 - our own number

_ROWS: Final = """
SELECT log_offset, time_ms, p.viewer_id, p.post_id, 'impression' AS action, false AS is_undo,
    least(coalesce(p.dwell_ms, 0), $max_ms) / 1000 AS watch_s, NULL::DOUBLE AS amount, p.request_id, p.context.surface
FROM read_looks
UNION ALL
SELECT log_offset, time_ms, p.viewer_id, p.post_id, p.action, coalesce(p.is_undo, false), 0, p.amount, p.request_id,
    p.context.surface
FROM read_deeds
ORDER BY log_offset
"""
_COPY: Final = (
    "COPY interactions (log_offset, happened_at, user_id, post_id, action, is_undo, watch_s, amount, "
    "request_id, surface) FROM STDIN"
)


@dataclass(slots=True)
class LoadReport:
    """What loads did.

    Attributes
    ----------
    n_rows
        Loaded.
    n_too_old
        Left out: of days that are not kept any more.
    position
        Log offset loaded so far.
    """

    n_rows: int = 0
    n_too_old: int = 0
    position: int = 0

    def add(self, other: LoadReport) -> None:
        """Take in a later report."""
        self.n_rows += other.n_rows
        self.n_too_old += other.n_too_old
        self.position = other.position


class PostgresInteractions:
    """Looks and actions in a PostgreSQL schema.

    Parameters
    ----------
    url
        ``"postgresql://user:password@host:port/database"``.
    warehouse, codec
        Where the rows come from.
    clock
        Event time decides which days are kept, and when the hours of ``trending`` end.
    kept_days
        Days kept, today's included.
    schema
        Where tables and view are; made where missing.
    max_ms
        The longest time on screen that counts.

    Raises
    ------
    ConfigError
        If the ``psycopg`` package is not installed.
    """

    def __init__(
        self,
        url: str,
        warehouse: Warehouse,
        codec: EventCodec,
        clock: Clock,
        *,
        kept_days: int = 30,
        schema: str = "millrace_warehouse",
        max_ms: int = 600_000,
    ) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError(
                "config key warehouse.postgres_url",
                problem="the psycopg package is not installed",
                remedy="pip install -e '.[postgres]'",
            ) from error
        self._error: type[Exception] = psycopg.Error
        self._url, self._name = url, without_secrets(url) if "://" in url else "***"
        self._warehouse = warehouse
        self._facts = FactReader(codec)
        self._clock = clock
        self._kept_days = kept_days
        self._schema = schema
        self._max_ms = max_ms
        self._is_made = False

    def position(self) -> int:
        """Return the log offset loaded so far."""
        with self._connected() as connection:
            return _only(connection.execute("SELECT position FROM progress"))

    def load(self, *, step_records: int = _STEP_RECORDS) -> LoadReport:
        """Load what the warehouse holds beyond the last load; make the coming days' partitions, drop old ones.

        Parameters
        ----------
        step_records
            Log records of one transaction.

        Raises
        ------
        StoreError
            If the server does not do as asked, or is ahead of the warehouse.
        """
        report = LoadReport()
        end = total(self._warehouse.position() or (0,))
        with self._connected() as connection:
            self._keep_days(connection)
            while self._load_step(connection, end, step_records, report):
                pass
        return report

    def refresh_trending(self) -> None:
        """Compute ``trending`` anew, up to now; who reads it meanwhile reads the old one."""
        with self._connected() as connection:
            now = _EPOCH + timedelta(milliseconds=self._clock.now_ms())
            connection.execute("UPDATE progress SET trending_until = %s", (now,))
            connection.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY trending")

    def erase(self, user: str, posts: Collection[str] = (), *, before: int) -> int:  # noqa: ARG002 - posts stay others'
        """Remove what a user did before a log offset; return how many rows. The warehouse's raw events come first.

        What others did with the user's posts is theirs, as in the raw events.
        """
        with self._connected() as connection:
            self._finish_dropping(connection)  # what is detached already is not reached by the parent's name
            gone = connection.execute("DELETE FROM interactions WHERE user_id = %s AND log_offset < %s", (user, before))
            return gone.rowcount

    def _load_step(
        self, connection: psycopg.Connection[Any], end_of_raw: int, step_records: int, report: LoadReport
    ) -> bool:
        # The row's lock is held until the rows are in: two loaders take turns, and neither repeats the other.
        with connection.transaction():
            first = _only(connection.execute("SELECT position FROM progress FOR UPDATE"))
            if first > end_of_raw:
                raise StoreError(
                    "interactions in PostgreSQL",
                    value=self._name,
                    problem=f"are at log position {first}, ahead of the warehouse, which is at {end_of_raw}",
                    remedy=f"drop the schema {self._schema} to load anew, or restore both from one time",
                )
            end = min(first + step_records, end_of_raw)
            report.position = end
            if first == end:
                return False
            floor = self._floor()
            with self._read(first, end) as db:
                # Before the first row: a COPY that runs does not see partitions that come later.
                for day in sorted(_days(db).difference(self._partitions(connection))):
                    if day >= floor:
                        self._make_partition(day)
                with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                    for row in self._rows(db):
                        if row[1].date() < floor:
                            report.n_too_old += 1
                            continue
                        copy.write_row(row)
                        report.n_rows += 1
            connection.execute("UPDATE progress SET position = %s", (end,))
        return True

    @contextmanager
    def _read(self, first: int, end: int) -> Iterator[duckdb.DuckDBPyConnection]:
        """Have the looks and actions between two log offsets read."""
        import duckdb

        snapshot, paths = self._warehouse.snapshot(first)
        try:
            with duckdb.connect() as db:
                db.execute("SET enable_progress_bar = false")
                db.execute(events_view(paths, "raw"))
                self._facts.read(db, first, end, (Impression, Engagement))
                yield db
        finally:
            snapshot.close()

    def _rows(self, db: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
        db.execute(_ROWS, {"max_ms": self._max_ms})
        while rows := db.fetchmany(_FETCHED):
            for offset, time_ms, *values in rows:
                # PostgreSQL's text holds no NUL, which JSON may.
                texts = (value.replace("\x00", "") if isinstance(value, str) else value for value in values)
                yield (offset, _EPOCH + timedelta(milliseconds=time_ms), *texts)

    def _floor(self) -> date:
        return (_EPOCH + timedelta(milliseconds=self._clock.now_ms())).date() - timedelta(days=self._kept_days - 1)

    def _finish_dropping(self, connection: psycopg.Connection[Any]) -> None:
        """Detach and drop the days that one who was killed was about to: nothing else can be detached before."""
        pending = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = 'interactions'::regclass AND inhdetachpending"
        ).fetchall()
        for (name,) in pending:
            connection.execute(f"ALTER TABLE interactions DETACH PARTITION {name} FINALIZE")
        detached = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r' "
            "AND relname ~ '^interactions_[0-9]{8}$' AND NOT relispartition",
            (f'"{self._schema}"',),
        ).fetchall()
        for (name,) in detached:
            connection.execute(f"DROP TABLE IF EXISTS {name}")

    def _keep_days(self, connection: psycopg.Connection[Any]) -> None:
        self._finish_dropping(connection)
        floor = self._floor()
        there = self._partitions(connection)
        for day in sorted(there):
            if day < floor:
                name = _partition(day)
                connection.execute(f"ALTER TABLE interactions DETACH PARTITION {name} CONCURRENTLY")
                connection.execute(f"DROP TABLE IF EXISTS {name}")
        today = floor + timedelta(days=self._kept_days - 1)
        for ahead in range(DAYS_AHEAD + 1):
            if (day := today + timedelta(days=ahead)) not in there:
                self._make_partition(day, connection)

    def _partitions(self, connection: psycopg.Connection[Any]) -> list[date]:
        found = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'interactions'::regclass"
        ).fetchall()
        return [_day_of(name) for (name,) in found]

    def _make_partition(self, day: date, connection: psycopg.Connection[Any] | None = None) -> date:
        """Make a day's partition; of a connection of its own, so that no lock is held for the length of a load."""
        if connection is None:
            with self._connected() as own:
                return self._make_partition(day, own)
        name = _partition(day)
        with connection.transaction():
            # Attaching takes SHARE UPDATE EXCLUSIVE, which readers and writers do not mind; CREATE … PARTITION OF
            # would wait for all of them.
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (LIKE interactions)")
            connection.execute(
                f"ALTER TABLE interactions ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{day} 00:00+00') TO ('{day + timedelta(days=1)} 00:00+00')"
            )
        return day

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        import psycopg

        try:
            with psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_S) as connection:
                if not self._is_made:
                    self._make(connection)
                    self._is_made = True
                connection.execute(f'SET search_path = "{self._schema}"')
                yield connection
        except self._error as error:
            raise StoreError(
                "PostgreSQL",
                value=self._name,
                problem=f"did not do as asked ({hide_secrets(' '.join(str(error).split()), self._url)})",
                remedy="start the server, or correct [warehouse] postgres_url and the user's rights",
            ) from error

    def _make(self, connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            # Two that begin at once would both find nothing, and one of them fail.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self._schema,))
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
            connection.execute(f'SET LOCAL search_path = "{self._schema}"')
            connection.execute(_SCHEMA)


def _days(db: duckdb.DuckDBPyConnection) -> set[date]:
    query = (
        "SELECT DISTINCT time_ms // 86400000 FROM (SELECT time_ms FROM read_looks UNION SELECT time_ms FROM read_deeds)"
    )
    return {(_EPOCH + timedelta(days=days)).date() for (days,) in db.execute(query).fetchall()}


def _partition(day: date) -> str:
    return f"interactions_{day:%Y%m%d}"


def _day_of(name: str) -> date:
    return datetime.strptime(name[-8:], "%Y%m%d").date()  # noqa: DTZ007 - a day, not a moment


def _only(cursor: psycopg.Cursor[Any]) -> int:
    rows: Sequence[tuple[int]] = cursor.fetchall()
    return rows[0][0]
