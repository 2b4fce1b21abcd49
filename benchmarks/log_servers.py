"""The logs on servers, for `bench_log`: a Redis server of its own, and librdkafka's mock cluster."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import harness
from millrace.base.clock import SystemClock
from millrace.stream.kafka_log import KafkaLog
from millrace.stream.log import Log, Message
from millrace.stream.redis_log import RedisLog
from millrace.stream.server_config import KafkaLogConfig, RedisLogConfig
from millrace.testing.kafka_mock import MockKafka
from millrace.testing.redis_process import RedisProcess

ROUNDS = 3
BATCH = 1_000
KAFKA_BATCHES = 10


@dataclass
class Measured:
    """What was found out; empty where a server is not there."""

    is_equal: bool = True
    ratios: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


def measure(folder: Path, batches: list[list[Message]], expected: list[bytes]) -> Measured:
    """Measure what is there; ``expected`` is what `SqliteLog` gives back."""
    measured = Measured()
    if shutil.which("redis-server"):
        on_redis(folder, batches, expected, measured)
    on_kafka_mock(batches[:KAFKA_BATCHES], measured)
    return measured


def append_all(log: Log, batches: list[list[Message]]) -> None:
    for batch in batches:
        log.append(batch)


def poll_all(log: Log) -> list[bytes]:
    with contextlib.closing(log.subscribe("bench", start=log.begin())) as consumer:
        found: list[bytes] = []
        while len(batch := consumer.poll(BATCH)):
            found += batch.data
        return found


def on_redis(folder: Path, batches: list[list[Message]], expected: list[bytes], measured: Measured) -> None:
    import redis

    n_events = sum(map(len, batches))
    names = itertools.count()
    with (
        RedisProcess(folder, "--appendonly", "yes", "--appendfsync", "always") as server,
        redis.Redis(port=server.port) as client,
        contextlib.ExitStack() as stack,
    ):

        def open_log() -> RedisLog:
            log = RedisLog(RedisLogConfig(url=server.url, prefix=f"bench-{next(names)}"), SystemClock())
            stack.callback(log.close)
            return log

        def append(_: int) -> None:
            append_all(open_log(), batches)

        def xadd(_: int) -> None:
            client.delete("xadd")
            for batch in batches:
                pipe = client.pipeline(transaction=True)
                for message in batch:
                    pipe.xadd("xadd", {"topic": message.topic, "key": message.key, "data": message.data})
                pipe.execute()

        kept = open_log()
        append_all(kept, batches)
        before = sum(client.memory_usage(key) or 0 for key in client.scan_iter("{bench-0:log}:*") if _is_window(key))
        xadd(0)
        measured.is_equal = poll_all(kept) == expected and len(read_xadd(client)) == n_events
        seconds = harness.interleave(
            {
                "append": append,
                "xadd": xadd,
                "poll": lambda _: poll_all(kept),
                "xrange": lambda _: read_xadd(client),
            },
            n_rounds=ROUNDS,
            n_warmup=1,
        )
    median_s = {name: float(np.median(times)) for name, times in seconds.items()}
    measured.ratios |= {
        "redis_xadd": median_s["xadd"] / median_s["append"],
        "redis_xadd_poll": median_s["xrange"] / median_s["poll"],
    }
    measured.figures |= {
        "redis_append_per_s": n_events / median_s["append"],
        "redis_poll_per_s": len(expected) / median_s["poll"],
        "redis_xadd_append_per_s": n_events / median_s["xadd"],
        "redis_xadd_poll_per_s": n_events / median_s["xrange"],
        "redis_window_bytes_per_event": before / len(expected),
    }


def _is_window(key: bytes) -> bool:
    return key.endswith((b":known", b":order"))


def read_xadd(client: Any) -> list[bytes]:
    found: list[bytes] = []
    last = b"-"
    while rows := client.xrange("xadd", last, count=BATCH):
        found += [fields[b"data"] for _, fields in rows]
        last = b"(" + rows[-1][0]
    return found


def on_kafka_mock(batches: list[list[Message]], measured: Measured) -> None:
    names = itertools.count()
    n_events = sum(map(len, batches))

    @contextlib.contextmanager
    def open_log() -> Iterator[KafkaLog]:
        topic = f"bench-{next(names)}"
        cluster.make_log_topics(topic, 1)
        with contextlib.closing(
            KafkaLog(KafkaLogConfig(servers=cluster.servers, topic=topic), SystemClock(), 1)
        ) as log:
            yield log

    def append(_: int) -> None:
        with open_log() as log:
            append_all(log, batches)

    with MockKafka() as cluster, open_log() as kept:
        append_all(kept, batches)
        seen: dict[str, bytes] = {}
        for message in itertools.chain.from_iterable(batches):
            seen.setdefault(message.event_id, message.data)
        measured.is_equal &= poll_all(kept) == list(seen.values())
        seconds = harness.interleave({"append": append, "poll": lambda _: poll_all(kept)}, n_rounds=ROUNDS, n_warmup=1)
    measured.figures |= {
        "kafka_mock_append_per_s": n_events / float(np.median(seconds["append"])),
        "kafka_mock_poll_per_s": len(seen) / float(np.median(seconds["poll"])),
    }
