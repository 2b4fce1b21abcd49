"""`KafkaReader`: messages of some partitions, in each one's order, up to where they end now.

The library fetches in the background and says when it has come to a partition's end; what is kept there and is no
message (marks of transactions, places of compacted records) is passed over by that. What was fetched and not
wanted yet is held back here for the next read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from millrace.base.errors import LogError
from millrace.stream.positions import records_are_gone

if TYPE_CHECKING:
    from millrace.stream.kafka_cluster import KafkaCluster

_FETCHED_AT_ONCE: Final = 10_000
_WAIT_S: Final = 0.05


class KafkaReader:
    """A reader of one topic. Not shared between threads.

    Parameters
    ----------
    cluster
        The brokers.
    consumer
        The library's consumer; its partitions are given by `move`, or by the brokers (`KafkaMember`).
    topic
        What is read.
    """

    def __init__(self, cluster: KafkaCluster, consumer: Any, topic: str) -> None:
        self.positions: dict[int, int] = {}
        self._cluster = cluster
        self._consumer = consumer
        self._topic = topic
        self._held: deque[Any] = deque()
        self._eof = cluster.kafka.KafkaError._PARTITION_EOF  # noqa: SLF001 - the library's name
        self._reset = cluster.kafka.KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001

    def move(self, positions: Mapping[int, int]) -> None:
        """Read these partitions, from these offsets."""
        self.positions = dict(positions)
        self._held.clear()
        with self._cluster.errors("read"):
            self._consumer.assign(
                [self._cluster.kafka.TopicPartition(self._topic, *place) for place in positions.items()]
            )

    def fetch(self, timeout_s: float = 0.0) -> bool:
        """Take over what was fetched, waiting for the first message; return whether there was any."""
        with self._cluster.errors("read"):
            found = self._consumer.consume(_FETCHED_AT_ONCE, 0)
            if not found and timeout_s:
                first = self._consumer.poll(timeout_s)
                found = [] if first is None else [first, *self._consumer.consume(_FETCHED_AT_ONCE, 0)]
        self._held.extend(found)
        return bool(found)

    def read(self, most: int, ends: Mapping[int, int], stops: Mapping[int, int] | None = None) -> list[Any]:
        """Return up to ``most`` messages before ``ends`` (and ``stops``), fewer only where there are no more.

        Raises
        ------
        LogError
            If the next messages were trimmed, or brokers do not give what they say they have.
        """
        found: list[Any] = []
        stops = stops or {}
        deadline_s = time.monotonic() + self._cluster.config.timeout_s
        while True:
            self._take(found, most, stops)
            if len(found) >= most or self._is_at(ends, stops):
                return found
            if self.fetch(_WAIT_S):
                deadline_s = time.monotonic() + self._cluster.config.timeout_s
            elif time.monotonic() > deadline_s:
                raise LogError(
                    "log on kafka",
                    value=self._topic,
                    problem=f"nothing was read for {self._cluster.config.timeout_s} s, from {self.positions} on",
                    remedy="look after the brokers, or raise log.kafka.timeout_s",
                )

    def _is_at(self, ends: Mapping[int, int], stops: Mapping[int, int]) -> bool:
        positions = self.positions
        return all(
            positions.get(partition, end) >= min(end, stops.get(partition, end)) for partition, end in ends.items()
        )

    def _take(self, found: list[Any], most: int, stops: Mapping[int, int]) -> None:
        """Move held messages into ``found``, and the positions with them."""
        positions, back = self.positions, []
        while self._held and len(found) < most:
            message = self._held.popleft()
            partition, offset, error = message.partition(), message.offset(), message.error()
            position = positions.get(partition)
            if position is None:
                continue  # it belongs to another member by now
            if error is not None and error.code() != self._eof:
                raise self._error(error, partition)
            if partition in stops and offset >= stops[partition]:
                positions[partition] = max(position, stops[partition])
                back.append(message)
            elif error is not None:
                positions[partition] = max(position, offset)
            elif offset >= position:
                positions[partition] = offset + 1
                found.append(message)
        self._held.extendleft(reversed(back))

    def _error(self, error: Any, partition: int) -> LogError:
        if error.code() == self._reset:
            begin = self._cluster.begins([partition], self._topic)[partition]
            if self.positions[partition] < begin:
                return records_are_gone(self.positions[partition], begin)
        return self._cluster.our_error(error, "read")


def read_all(cluster: KafkaCluster, topic: str) -> list[Any]:
    """Return all messages of a topic of one partition, oldest first."""
    with cluster.errors("read"):
        consumer = cluster.consumer("reader")
        try:
            reader = KafkaReader(cluster, consumer, topic)
            begin, end = cluster.begins([0], topic), cluster.ends([0], topic)
            if begin == end:
                return []
            reader.move(begin)
            return reader.read(end[0] - begin[0], end)
        finally:
            consumer.close()
