from collections.abc import Iterator
from typing import Any

import pytest

from millrace.base.clock import ManualClock
from millrace.stream.redis_log import RedisLog
from millrace.stream.server_config import RedisLogConfig
from millrace.testing.log_contract import DurableLogContract, MakeLog, OpenAnother
from millrace.testing.shared_log_contract import SharedLogContract

pytestmark = pytest.mark.service

_COUNT = iter(range(10**9))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000)


class TestRedisLog(DurableLogContract, SharedLogContract):
    @pytest.fixture
    def made(self) -> Iterator[dict[str, Any]]:
        made: dict[str, Any] = {"logs": [], "settings": {}, "prefix": f"contract-{next(_COUNT)}"}
        yield made
        for log in made["logs"]:
            log.close()

    @pytest.fixture
    def make_log(self, redis_url: str, clock: ManualClock, made: dict[str, Any]) -> MakeLog:
        def make(**settings: Any) -> RedisLog:
            made["settings"] = settings
            config = RedisLogConfig(url=redis_url, prefix=made["prefix"], requires_fsync=False)
            log = RedisLog(config, clock, **settings)
            made["logs"].append(log)
            return log

        return make

    @pytest.fixture
    def open_another(self, make_log: MakeLog, made: dict[str, Any]) -> OpenAnother:
        return lambda: make_log(**made["settings"])
