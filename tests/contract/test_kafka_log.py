"""The Kafka log against librdkafka's mock cluster: as far as that goes, it is the protocol of real brokers."""

from collections.abc import Iterator
from typing import Any

import pytest

from millrace.base.clock import ManualClock
from millrace.stream.kafka_log import KafkaLog
from millrace.stream.log import Log
from millrace.stream.server_config import KafkaLogConfig
from millrace.testing.kafka_mock import MockKafka
from millrace.testing.log_contract import LogContract, MakeLog, OneOrderLogContract, OpenAnother, RestartContract
from millrace.testing.shared_log_contract import SharedLogContract

pytestmark = pytest.mark.service

_COUNT = iter(range(10**9))


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000)


class OnKafka:
    is_atomic = True
    n_partitions = 16

    @pytest.fixture
    def made(self) -> Iterator[dict[str, Any]]:
        made: dict[str, Any] = {"logs": [], "settings": {}, "topic": f"contract-{next(_COUNT)}"}
        yield made
        for log in made["logs"]:
            log.close()

    @pytest.fixture
    def make_log(self, cluster: MockKafka, clock: ManualClock, made: dict[str, Any]) -> MakeLog:
        def make(**settings: Any) -> Log:
            made["settings"] = settings
            settings = {"n_partitions": self.n_partitions, **settings}
            cluster.make_log_topics(made["topic"], settings["n_partitions"])
            config = KafkaLogConfig(
                servers=cluster.servers,
                topic=made["topic"],
                is_atomic=self.is_atomic,
                consumer_options={"fetch.wait.max.ms": "20", "session.timeout.ms": "6000"},
            )
            log = KafkaLog(config, clock, **settings)
            made["logs"].append(log)
            return log

        return make

    @pytest.fixture
    def open_another(self, make_log: MakeLog, made: dict[str, Any]) -> OpenAnother:
        return lambda: make_log(**made["settings"])


class TestKafkaLog(OnKafka, LogContract, SharedLogContract):
    counts_exactly = False  # marks of transactions take offsets


class TestKafkaLogOfOnePartitionWithoutTransactions(OnKafka, OneOrderLogContract, RestartContract):
    is_atomic = False
    n_partitions = 1
