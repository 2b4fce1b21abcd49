"""A member of a group on Kafka whose process is killed: it leaves no word, and what it held comes to another one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.base.clock import ManualClock
from millrace.stream.kafka_log import KafkaLog
from millrace.stream.server_config import KafkaLogConfig
from millrace.testing.kafka_mock import MockKafka
from millrace.testing.shared_log_contract import N_PARTITIONS, append_to_all, poll_until

pytestmark = [pytest.mark.service, pytest.mark.timeout(240)]

N_COMMITTED = 3
"""Records of each partition that the other process commits; later ones it reads, and dies."""
SILENT_MS = 6_000


class OtherMember:
    """A member in a process of its own."""

    def __init__(self, config: dict[str, object]) -> None:
        program = [sys.executable, str(Path(__file__).with_name("kafka_member_process.py"))]
        arguments = [json.dumps(config), str(N_PARTITIONS), str(N_COMMITTED)]
        self.process = subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, text=True)
        self.partitions: frozenset[int] = frozenset()
        self.read: list[str] = []
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            self.read += told["read"]
            self.partitions = frozenset(told["partitions"])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._listening.join()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def cluster() -> Iterator[MockKafka]:
    with MockKafka(rebalance_delay_ms=200) as cluster:
        cluster.make_log_topics("feed", N_PARTITIONS)
        yield cluster


def test_the_share_of_a_killed_member_comes_to_another_from_where_it_had_committed(cluster: MockKafka) -> None:
    quick = {"fetch.wait.max.ms": "20", "session.timeout.ms": str(SILENT_MS), "heartbeat.interval.ms": "200"}
    config = {"servers": cluster.servers, "topic": "feed", "consumer_options": quick}
    log = KafkaLog(KafkaLogConfig(**config), ManualClock(1_000), N_PARTITIONS)  # type: ignore[arg-type]
    one, other = log.join("g"), OtherMember(config)
    try:
        poll_until(lambda: len(one.partitions) == len(other.partitions) == N_PARTITIONS // 2, one)
        its = other.partitions
        assert its.isdisjoint(one.partitions)
        append_to_all(log, range(N_COMMITTED))
        poll_until(lambda: log.lag("g") == 0, one)
        later = append_to_all(log, range(N_COMMITTED, N_COMMITTED + 3))
        its_later = {text for text in later if int(text.partition(":")[0]) in its}
        mine = poll_until(lambda: its_later <= set(other.read), one)
        assert its_later.isdisjoint(mine)
        other.kill()
        # No word of leaving: only silence tells the group. Nobody else gives the partitions back.
        after = poll_until(lambda: log.lag("g") == 0 and len(one.partitions) == N_PARTITIONS, one)
        assert its_later <= set(after)  # what it had read and not committed comes again
        assert set(mine) | set(after) == later  # nothing is lost or skipped, and nothing comes of what it had committed
        more = append_to_all(log, [9])
        assert set(poll_until(lambda: log.lag("g") == 0, one)) == more
    finally:
        other.kill()
        one.close()
        log.close()
