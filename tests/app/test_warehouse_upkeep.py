"""The keeper's upkeep of the warehouse: a process that builds the tables, when it is due."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from millrace.app.commands.init import make_home
from millrace.app.intake import Intake
from millrace.app.settings import Settings, load_settings
from millrace.app.warehouse_upkeep import WarehouseUpkeep, run_postgres, start_upkeep
from millrace.app.warehouse_wiring import build_erasable, build_tables_reader, build_warehouse
from millrace.app.wiring import build_log
from millrace.base.clock import ManualClock
from millrace.testing.builders import NOW_MS, an_impression


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


@pytest.mark.service
def test_postgres_is_brought_up_to_the_log_and_erased_from(settings: Settings, postgres_url: str) -> None:
    import psycopg

    warehouse = msgspec.structs.replace(settings.config.warehouse, postgres_url=postgres_url, postgres_days=3_650)
    settings = Settings(settings.home, msgspec.structs.replace(settings.config, warehouse=warehouse))
    waits = iter([True, False])
    assert run_postgres(settings, once=False, wait=lambda _s: next(waits)).n_rows == 2
    assert run_postgres(settings, once=True).n_rows == 0
    build_erasable(settings).erase("ann", before=2)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        found = connection.execute("SELECT user_id FROM millrace_warehouse.interactions").fetchall()
        connection.execute("DROP SCHEMA millrace_warehouse CASCADE")
    assert found == [("bob",)]
