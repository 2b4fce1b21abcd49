"""Interactions in PostgreSQL: loaded once, in partitions that plans prune, with a view that nobody waits for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millrace.base.errors import StoreError
from millrace.flywheel.postgres_interactions import PostgresInteractions
from millrace.testing.builders import NOW_MS, an_engagement, an_impression
from millrace.testing.server_process import until
from millrace.testing.small_tables import CODEC, DAY_MS, HOUR_MS, SmallTables

pytestmark = pytest.mark.service
TODAY = datetime.fromtimestamp(NOW_MS / 1000, UTC).date()
_NUMBERS = itertools.count(1)


@pytest.fixture
def small(tmp_path: Path) -> SmallTables:
    return SmallTables(tmp_path)


class Server:
    """One schema of the server: the interactions under test, and connections of its readers."""

    def __init__(self, url: str, small: SmallTables, schema: str) -> None:
        self.url, self.schema, self.small = url, schema, small
        self.opened: list[Any] = []

    def interactions(self, kept_days: int = 5) -> PostgresInteractions:
        return PostgresInteractions(
            self.url, self.small.warehouse, CODEC, self.small.clock, kept_days=kept_days, schema=self.schema
        )

    def connect(self) -> Any:
        import psycopg

        connection = psycopg.connect(self.url, autocommit=True)
        connection.execute(f"SET search_path = {self.schema}")
        self.opened.append(connection)
        return connection

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.connect().execute(sql).fetchall()
        return rows


@pytest.fixture
def server(postgres_url: str, small: SmallTables) -> Iterator[Server]:
    server = Server(postgres_url, small, f"interactions_test_{next(_NUMBERS)}")
    yield server
    server.connect().execute(f"DROP SCHEMA IF EXISTS {server.schema} CASCADE")
    for connection in server.opened:
        connection.close()


def test_looks_and_actions_are_loaded_once_into_their_days(server: Server, small: SmallTables) -> None:
    small.put(
        an_impression("ann", 1, dwell_ms=2_500, request_id="r1", surface="ho\x00me"),
        an_engagement("ann", 1, "like", at_ms=NOW_MS - DAY_MS),
        an_engagement("ann", 1, "like", is_undo=True, at_ms=NOW_MS - 20 * DAY_MS),
    )
    report = server.interactions().load(step_records=2)
    assert (report.n_rows, report.n_too_old, report.position) == (2, 1, 3)
    assert server.interactions().load().n_rows == 0
    assert server.rows(
        "SELECT log_offset, user_id, post_id, action, watch_s, request_id, surface FROM interactions ORDER BY 1"
    ) == [(0, "ann", "1", "impression", 2.5, "r1", "home"), (1, "ann", "1", "like", 0.0, None, None)]
    names = server.rows("SELECT tableoid::regclass::text FROM interactions ORDER BY 1")
    assert [name[-8:] for (name,) in names] == [f"{TODAY - timedelta(days=1):%Y%m%d}", f"{TODAY:%Y%m%d}"]


def test_a_load_that_was_killed_has_loaded_nothing(
    server: Server, small: SmallTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.put(*(an_impression("ann", number) for number in range(5)))
    rows = PostgresInteractions._rows

    def killed(self: PostgresInteractions, db: Any) -> Iterator[tuple[Any, ...]]:
        yield from itertools.islice(rows(self, db), 3)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PostgresInteractions, "_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            server.interactions().load()
    assert server.rows("SELECT count(*) FROM interactions") == [(0,)]
    server.interactions().load()
    assert server.rows("SELECT count(*), count(DISTINCT log_offset) FROM interactions") == [(5, 5)]


def test_partitions_are_made_ahead_and_old_ones_dropped(server: Server, small: SmallTables) -> None:
    small.put(*(an_impression("ann", age, at_ms=NOW_MS - age * DAY_MS) for age in range(4)))
    server.interactions(kept_days=5).load()
    small.clock.advance_ms(3 * DAY_MS)
    small.put(an_impression("ann", 9, at_ms=NOW_MS + 3 * DAY_MS))
    server.interactions(kept_days=5).load()
    assert server.rows("SELECT post_id FROM interactions ORDER BY happened_at") == [("1",), ("0",), ("9",)]
    found = server.rows(
        "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
        "WHERE inhparent = 'interactions'::regclass ORDER BY 1"
    )
    days = [date.fromisoformat(f"{n[-8:-4]}-{n[-4:-2]}-{n[-2:]}") for (n,) in found]
    assert (days[0], days[-1]) == (TODAY - timedelta(days=1), TODAY + timedelta(days=6))


def plan(server: Server, sql: str) -> dict[str, Any]:
    found: Any = server.rows(f"EXPLAIN (FORMAT JSON) {sql}")[0][0]
    top: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return top


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_plans_read_only_the_days_asked_for_by_the_index_of_user_or_post(server: Server, small: SmallTables) -> None:
    small.put(*(an_impression(f"u{n % 40}", n % 50, at_ms=NOW_MS - (n % 4) * DAY_MS - n) for n in range(2_000)))
    server.interactions().load()
    server.connect().execute("ANALYZE interactions")
    day = TODAY - timedelta(days=2)
    during = f"happened_at >= '{day} 00:00+00' AND happened_at < '{day} 23:00+00'"
    for column, value, index in (("user_id", "u6", "user_id_happened_at"), ("post_id", "6", "post_id_happened_at")):
        found = plan(server, f"SELECT * FROM interactions WHERE {column} = '{value}' AND {during}")
        tables = {node["Relation Name"] for node in nodes(found) if "Relation Name" in node}
        indexes = {node["Index Name"] for node in nodes(found) if "Index Name" in node}
        assert tables == {f"interactions_{day:%Y%m%d}"}
        assert [index in name for name in indexes] == [True]


def test_trending_holds_posts_of_more_than_a_hundred_rows_within_a_day(server: Server, small: SmallTables) -> None:
    small.put(
        *(an_impression(f"u{n}", 1, at_ms=NOW_MS - n) for n in range(100)),
        an_engagement("u1", 1, "like"),
        *(an_impression(f"u{n}", 2, at_ms=NOW_MS - n) for n in range(100)),
        an_engagement("u1", 2, "like", is_undo=True),
        *(an_impression(f"u{n}", 3, at_ms=NOW_MS - DAY_MS - HOUR_MS - n) for n in range(150)),
    )
    interactions = server.interactions()
    interactions.load()
    interactions.refresh_trending()
    trending = "SELECT post_id, n_interactions, n_impressions, n_users FROM trending"
    assert server.rows(trending) == [("1", 101, 100, 100)]
    small.clock.advance_ms(2 * DAY_MS)
    interactions.refresh_trending()
    assert server.rows(trending) == []


def test_a_refresh_blocks_no_reader(server: Server, small: SmallTables) -> None:
    small.put(*(an_impression(f"u{n}", 1, at_ms=NOW_MS - n) for n in range(101)))
    interactions = server.interactions()
    interactions.load()
    interactions.refresh_trending()
    refreshing, reader = server.connect(), server.connect()
    reader.execute("SET lock_timeout = '1s'")
    with refreshing.transaction():
        refreshing.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY trending")
        # Its locks are held until the transaction ends: this is a refresh that takes as long as one likes.
        modes = {
            mode
            for (mode,) in reader.execute(
                "SELECT mode FROM pg_locks WHERE relation = 'trending'::regclass AND pid = %s",
                (refreshing.info.backend_pid,),
            )
        }
        assert "ExclusiveLock" in modes
        assert "AccessExclusiveLock" not in modes
        assert reader.execute("SELECT post_id FROM trending").fetchall() == [("1",)]
    with refreshing.transaction():
        refreshing.execute("REFRESH MATERIALIZED VIEW trending")
        import psycopg

        with pytest.raises(psycopg.errors.LockNotAvailable):  # what CONCURRENTLY is good for
            reader.execute("SELECT post_id FROM trending")


def test_readers_do_not_wait_for_a_new_days_partition(server: Server, small: SmallTables) -> None:
    small.put(an_impression("ann", 1))
    server.interactions().load()
    reader = server.connect()
    with reader.transaction():
        assert reader.execute("SELECT count(*) FROM interactions").fetchall() == [(1,)]  # its lock is held from here
        small.clock.advance_ms(DAY_MS)
        small.put(an_impression("ann", 2, at_ms=NOW_MS + DAY_MS))
        assert server.interactions().load().n_rows == 1


def test_an_erased_user_is_gone_and_who_came_back_stays(server: Server, small: SmallTables) -> None:
    small.put(an_impression("erin", 1), an_impression("bob", 1), an_impression("erin", 2))
    interactions = server.interactions()
    interactions.load()
    assert interactions.erase("erin", before=2) == 1
    assert server.rows("SELECT user_id, post_id FROM interactions ORDER BY 1") == [("bob", "1"), ("erin", "2")]


def test_days_that_were_being_dropped_by_one_who_was_killed_are_dropped_and_hold_nothing_up(
    server: Server, small: SmallTables
) -> None:
    import psycopg

    old = [f"interactions_{TODAY - timedelta(days=age):%Y%m%d}" for age in (3, 4)]
    small.put(*(an_impression("erin", age, at_ms=NOW_MS - age * DAY_MS) for age in (0, 3, 4)))
    server.interactions().load()
    # Killed after the detaching, before the drop: a table that is no partition.
    server.connect().execute(f"ALTER TABLE interactions DETACH PARTITION {old[1]} CONCURRENTLY")
    # Killed while it waits for a reader: a partition that is neither in nor out.
    reader, detaching, looking = server.connect(), server.connect(), server.connect()
    pending = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhdetachpending"
    with reader.transaction():
        reader.execute("SELECT count(*) FROM interactions")
        with ThreadPoolExecutor(1) as threads:
            said = threads.submit(detaching.execute, f"ALTER TABLE interactions DETACH PARTITION {old[0]} CONCURRENTLY")
            until(lambda: looking.execute(pending).fetchall() == [(old[0],)], 90)
            looking.execute("SELECT pg_terminate_backend(%s)", (detaching.info.backend_pid,))
            with pytest.raises(psycopg.OperationalError):
                said.result()
    assert server.interactions().erase("erin", before=99) == 1
    assert looking.execute("SELECT to_regclass(%s), to_regclass(%s)", old).fetchall() == [(None, None)]
    small.clock.advance_ms(2 * DAY_MS)
    server.interactions().load()


def test_a_server_that_is_ahead_or_away_is_told_without_its_password(
    server: Server, small: SmallTables, tmp_path: Path
) -> None:
    small.put(an_impression("ann", 1))
    server.interactions().load()
    behind = Server(server.url, SmallTables(tmp_path / "behind"), server.schema)
    with pytest.raises(StoreError, match="ahead of the warehouse"):
        behind.interactions().load()
    away = Server("postgresql://me:secret@127.0.0.1:1/none", small, "x")
    with pytest.raises(StoreError, match="PostgreSQL") as told:
        away.interactions().load()
    assert "secret" not in str(told.value)
