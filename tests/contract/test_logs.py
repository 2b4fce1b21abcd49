from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.base.clock import ManualClock
from millrace.stream.log import Log
from millrace.stream.memory_log import MemoryLog
from millrace.stream.sqlite_log import SqliteLog
from millrace.testing.log_contract import DurableLogContract, EmbeddedLogContract, MakeLog, OpenAnother


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000)


class TestMemoryLog(EmbeddedLogContract):
    @pytest.fixture
    def make_log(self, clock: ManualClock) -> MakeLog:
        def make(**settings: Any) -> Log:
            return MemoryLog(clock, **settings)

        return make


class TestSqliteLog(DurableLogContract):
    @pytest.fixture
    def made(self) -> Iterator[dict[str, Any]]:
        made: dict[str, Any] = {"logs": [], "settings": {}}
        yield made
        for log in made["logs"]:
            log.close()

    @pytest.fixture
    def make_log(self, tmp_path: Path, clock: ManualClock, made: dict[str, Any]) -> MakeLog:
        def make(**settings: Any) -> Log:
            made["settings"] = settings
            log = SqliteLog(tmp_path / "data" / "log.db", clock, **settings)
            made["logs"].append(log)
            return log

        return make

    @pytest.fixture
    def open_another(self, make_log: MakeLog, made: dict[str, Any]) -> OpenAnother:
        return lambda: make_log(**made["settings"])
