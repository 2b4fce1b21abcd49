"""What a `KafkaLog` does in its own way, and what it makes of brokers that fail."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from millrace.base.clock import ManualClock
from millrace.base.errors import ConfigError, LogError
from millrace.stream.kafka_log import KafkaLog
from millrace.stream.server_config import KafkaLogConfig
from millrace.testing.kafka_mock import MockKafka
from millrace.testing.log_contract import a_message, messages, polled
from millrace.testing.shared_log_contract import N_PARTITIONS, key_of

pytestmark = pytest.mark.service

TOPIC_AUTHORIZATION_FAILED = 29

OpenLog = Callable[..., KafkaLog]


@pytest.fixture
def cluster() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


@pytest.fixture
def open_log(cluster: MockKafka) -> Iterator[OpenLog]:
    logs: list[KafkaLog] = []

    def open_(
        n_partitions: int = 1, *, timeout_s: float = 15.0, window: int = 1_000, is_atomic: bool = True
    ) -> KafkaLog:
        cluster.make_log_topics("feed", n_partitions)
        config = KafkaLogConfig(
            servers=cluster.servers,
            topic="feed",
            timeout_s=timeout_s,
            is_atomic=is_atomic,
            consumer_options={"fetch.wait.max.ms": "20"},
        )
        logs.append(KafkaLog(config, ManualClock(1_000), n_partitions, duplicate_window=window))
        return logs[-1]

    yield open_
    for log in logs:
        log.close()


@pytest.mark.parametrize("is_atomic", [True, False])
def test_an_append_that_brokers_refuse_leaves_nothing(cluster: MockKafka, open_log: OpenLog, is_atomic: bool) -> None:
    log = open_log(N_PARTITIONS, is_atomic=is_atomic)
    log.append(messages("a"))
    cluster.fail_writes(TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(LogError, match=r"cannot be written .*[Aa]uthorization failed"):
        log.append(messages("b", "c"))
    assert polled(log) == ["a"]
    result = log.append([*messages("a", "b", "c"), a_message("d", key=key_of(1))])
    assert (result.offsets >= 0).tolist() == [False, True, True, True]
    assert sorted(polled(log)) == ["a", "b", "c", "d"]


def test_a_cluster_that_is_gone_is_an_error_with_a_remedy(cluster: MockKafka, open_log: OpenLog) -> None:
    log = open_log(timeout_s=1.0)
    log.append(messages("a"))
    cluster.set_down(is_down=True)
    with pytest.raises(LogError, match=r"look after the brokers"):
        log.append(messages("b"))
    with pytest.raises(LogError, match=r"look after the brokers"):
        log.end()
    cluster.set_down(is_down=False)


def test_logs_of_other_settings_are_refused_and_the_id_is_the_logs_own(open_log: OpenLog) -> None:
    log = open_log(4, window=10)
    assert open_log(4, window=10).log_id == log.log_id
    with pytest.raises(LogError, match=r"log setting duplicate_window 11: the log feed was made with 10"):
        open_log(4, window=11)
    with pytest.raises(LogError, match=r"log setting n_partitions 5: the log feed was made with 4"):
        open_log(5, window=10)


def test_options_that_librdkafka_does_not_know_are_refused() -> None:
    config = KafkaLogConfig(client_options={"colour": "blue"})
    with pytest.raises(ConfigError, match=r"does not take .*colour"):
        KafkaLog(config, ManualClock(0), 1)


def test_positions_have_an_offset_a_partition_and_numbers_are_unique(open_log: OpenLog) -> None:
    log = open_log(N_PARTITIONS)
    result = log.append([a_message(f"{i}-{p}", key=key_of(p)) for i in range(3) for p in range(N_PARTITIONS)])
    assert len(result.end) == N_PARTITIONS
    batch = log.subscribe("g").poll(100)
    by_data = dict(zip(batch.data, batch.offsets.tolist(), strict=True))
    assert [by_data[f"{i}-{p}".encode()] for i in range(3) for p in range(N_PARTITIONS)] == result.offsets.tolist()
    assert len(set(result.offsets.tolist())) == 12
    half = tuple(offset // 2 for offset in batch.end)
    consumer = log.subscribe("h", start=log.begin())
    first = consumer.poll(100, before=half)
    assert consumer.position == half
    rest = consumer.poll(100)
    assert sorted(first.data + rest.data) == sorted(batch.data)
    assert rest.end == log.end()


def test_purged_records_get_a_tombstone_that_readers_pass_over(open_log: OpenLog) -> None:
    log = open_log(N_PARTITIONS)
    offsets = log.append([a_message(f"{i}-{p}", key=key_of(p)) for i in range(2) for p in range(2)]).offsets
    assert log.purge(offsets[[1, 2]]) == 2
    assert log.purge(np.array([10_000])) == 0
    assert sorted(polled(log)) == ["0-0", "0-1", "1-0", "1-1"]  # until the brokers compact
    consumer = log.subscribe("g")
    assert consumer.poll(100).end == log.end()
    assert log.append([a_message("0-1", key=key_of(1))]).n_duplicates == 1


def test_what_brokers_cannot_do_is_said(open_log: OpenLog) -> None:
    log = open_log()
    log.append(messages("a", "b"))
    with pytest.raises(LogError, match=r"cannot be trimmed .*not supported by broker"):
        log.trim((1,))
    assert log.trim((0,)) == 0


def test_more_events_than_a_producer_holds_are_one_append(cluster: MockKafka, open_log: OpenLog) -> None:
    cluster.make_log_topics("feed", 1)
    config = KafkaLogConfig(
        servers=cluster.servers, topic="feed", producer_options={"queue.buffering.max.messages": "100"}
    )
    log = KafkaLog(config, ManualClock(1_000), 1)
    ids = [str(i) for i in range(1_000)]
    assert log.append(messages(*ids)).offsets.tolist() == list(range(1_000))
    assert polled(log, max_records=77) == ids
    log.close()
