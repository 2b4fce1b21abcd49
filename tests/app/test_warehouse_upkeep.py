"""The keeper's upkeep of the warehouse: a process that builds the tables, when it is due."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from millrace.app.commands.init import make_home
from millrace.app.intake import Intake
from millrace.app.settings import Settings, load_settings
from millrace.app.warehouse_upkeep import WarehouseUpkeep, run_postgres, start_upkeep
from millrace.app.warehouse_wiring import build_erasable, build_tables, build_tables_reader, build_warehouse
from millrace.app.wiring import build_log
from millrace.base.clock import ManualClock
from millrace.testing.builders import NOW_MS, an_impression
from millrace.testing.postgres_server import PostgresServer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    make_home(tmp_path / "feed")
    settings = load_settings(tmp_path / "feed")
    with Intake(settings, ManualClock(NOW_MS)) as door:
        door.take([an_impression("ann", 1), an_impression("bob", 1)])
    log = build_log(settings)
    build_warehouse(settings).export(log)
    log.close()
    return settings


def runs(upkeep: WarehouseUpkeep) -> bool:
    return upkeep._process is not None


def viewers(settings: Settings) -> list[str]:
    with build_tables_reader(settings) as reader:
        return [row[0] for row in reader.rows("SELECT viewer_id FROM interactions ORDER BY 1")[1]]


@pytest.mark.slow
def test_the_upkeep_is_a_process_that_builds_the_tables_and_erasure_reaches_them(settings: Settings) -> None:
    process = start_upkeep(settings)
    assert process.wait(100) == 0, (settings.run_dir / "warehouse.log").read_text()
    assert viewers(settings) == ["ann", "bob"]
    build_erasable(settings).erase("ann", before=2)
    assert viewers(settings) == ["bob"]


@pytest.mark.slow
def test_it_is_started_when_it_is_due_and_ended_with_the_keeper(settings: Settings) -> None:
    now_s = 0.0
    upkeep = WarehouseUpkeep(settings, lambda: now_s)
    upkeep.look()
    assert not runs(upkeep)
    now_s = settings.config.warehouse.build_every_s
    upkeep.look()
    assert runs(upkeep)
    upkeep.stop()
    assert not runs(upkeep)
    upkeep.look()
    assert not runs(upkeep)  # until it is due again


def on_postgres(settings: Settings, url: str, **dwell: int) -> Settings:
    config = settings.config
    stores = msgspec.structs.replace(
        config.stores,
        engagements=msgspec.structs.replace(
            config.stores.engagements, dwell=msgspec.structs.replace(config.stores.engagements.dwell, **dwell)
        ),
    )
    warehouse = msgspec.structs.replace(config.warehouse, postgres_url=url, postgres_days=3_650)
    return Settings(settings.home, msgspec.structs.replace(config, warehouse=warehouse, stores=stores))


@pytest.fixture
def url(postgres_url: str) -> Iterator[str]:
    """Return the URL of a server without interactions, and leave none there."""
    import psycopg

    yield postgres_url
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS millrace_warehouse CASCADE")


def in_postgres(url: str, columns: str) -> list[tuple[object, ...]]:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(f"SELECT {columns} FROM millrace_warehouse.interactions ORDER BY 1").fetchall()


@pytest.mark.service
def test_in_postgres_a_look_counts_as_long_as_everywhere_in_the_home(settings: Settings, url: str) -> None:
    settings = on_postgres(settings, url, short_ms=500, valid_ms=1_000, max_ms=2_000)
    with Intake(settings, ManualClock(NOW_MS)) as door:
        door.take([an_impression("zoe", 1, dwell_ms=9_000)])
    run_postgres(settings, once=True)
    build_tables(settings).build()
    with build_tables_reader(settings) as reader:
        (in_tables,) = reader.rows("SELECT watch_s FROM interactions WHERE viewer_id = 'zoe'")[1]
    assert in_postgres(url, "user_id, watch_s")[-1] == ("zoe", *in_tables) == ("zoe", 2.0)


@pytest.mark.service
def test_a_log_that_cannot_be_read_is_read_again_later(settings: Settings, url: str) -> None:
    settings = on_postgres(settings, url)
    with Intake(settings, ManualClock(NOW_MS)) as door:
        door.take([an_impression("zoe", 1)])
    file = sqlite3.connect(settings.log_path, isolation_level=None)
    file.execute("ALTER TABLE batches RENAME TO mislaid")
    goes_on = iter([True, False])

    def wait(_seconds: float) -> bool:
        if is_mended := next(goes_on):
            file.execute("ALTER TABLE mislaid RENAME TO batches")
        return is_mended

    assert run_postgres(settings, once=False, wait=wait).n_rows == 3
    file.close()
    assert in_postgres(url, "user_id") == [("ann",), ("bob",), ("zoe",)]


@pytest.mark.service
def test_a_server_that_is_away_is_told_once_left_alone_longer_and_longer_and_nothing_is_lost(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    with PostgresServer() as server:
        url = server.url.replace("millrace@", "millrace:hushhush@")
        settings = on_postgres(settings, url)

        def wait(seconds: float) -> bool:
            pauses.append(seconds)
            if len(pauses) == 1:
                with Intake(settings, ManualClock(NOW_MS)) as door:
                    door.take([an_impression("zoe", 1)])
                server.go_away()
            if len(pauses) == 9:
                server.come_back()
            return len(pauses) < 11

        with caplog.at_level("INFO", logger="millrace.app.warehouse_upkeep"):
            assert run_postgres(settings, once=False, wait=wait).n_rows == 3
        assert in_postgres(url, "user_id") == [("ann",), ("bob",), ("zoe",)]
    every_s = settings.config.warehouse.load_every_s
    assert (pauses[0], *pauses[9:]) == (every_s,) * 3
    assert all(p <= 60 and (q > p or q >= 30) for p, q in itertools.pairwise(pauses[1:9]))
    away, back = caplog.messages
    assert away.startswith("PostgreSQL 'postgresql://***@127.0.0.1:")
    assert "Connection refused" in away
    assert "start the server, or correct [warehouse] postgres_url" in away
    assert "hushhush" not in away
    assert back.startswith("PostgreSQL is back after ")
    assert "(8 tries failed); nothing is lost" in back


@pytest.mark.service
def test_postgres_is_brought_up_to_the_log_and_erased_from(settings: Settings, url: str) -> None:
    settings = on_postgres(settings, url)
    waits = iter([True, False])
    assert run_postgres(settings, once=False, wait=lambda _s: next(waits)).n_rows == 2
    assert run_postgres(settings, once=True).n_rows == 0
    build_erasable(settings).erase("ann", before=2)
    assert in_postgres(url, "user_id") == [("bob",)]
