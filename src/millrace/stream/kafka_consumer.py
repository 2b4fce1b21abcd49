"""`KafkaConsumer`, `KafkaMember`: read a `KafkaLog`'s records; the first by place, the second as one of a group."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import numpy as np

from millrace.base.errors import LogError
from millrace.stream.kafka_cluster import KafkaCluster
from millrace.stream.kafka_reader import KafkaReader
from millrace.stream.log import PartitionsMovedError, Position, RecordBatch
from millrace.stream.positions import check_count, consumer_is_closed
from millrace.stream.wanted_topics import WantedTopics

TOPIC_HEADER: Final = "topic"
_MOVED_CODES: Final = frozenset({22, 25, 27, 82})
"""Of the protocol: illegal generation, unknown member, rebalance in progress, fenced instance."""


class KafkaConsumer:
    """A reader of a `KafkaLog`; made by `KafkaLog.subscribe`. Has a connection of its own.

    Within a partition records come in their order, between partitions in no certain one.

    Parameters
    ----------
    cluster
        The brokers.
    group
        Whose commits to write.
    topics, without
        Names wanted, None for all; and names that are not.
    partitions
        Which partitions are read; the others keep their place in `position`.
    start
        Where to begin; None for where the group committed, or else the oldest kept record.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        group: str,
        topics: Iterable[str] | None,
        without: Iterable[str],
        partitions: Collection[int],
        start: Position | None,
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._wanted = WantedTopics(topics, without)
        self._own = sorted(partitions)
        self._code_by_topic: dict[str, int] = {}
        self._is_open = True
        with cluster.errors("opened"):
            self._consumer = self._make()
        self._reader = KafkaReader(cluster, self._consumer, cluster.topic)
        try:
            self._places = self._begin(start)
        except BaseException:
            self._consumer.close()
            raise

    @property
    def position(self) -> Position:
        """The next record of each partition to poll."""
        return self._cluster.position({**self._places, **self._reader.positions})

    def poll(self, max_records: int, *, before: Position | None = None) -> RecordBatch:
        """Return the next records, perhaps none; see `Consumer.poll`. All that is readable now is waited for.

        Raises
        ------
        LogError
            If the next records were trimmed: a reader is never moved over a gap silently.
        """
        check_count(max_records)
        self._check_open()
        ends = self._cluster.ends(self._reader.positions)
        stops = None if before is None else {partition: before[partition] for partition in ends}
        messages: list[Any] = []
        names: list[str] = []
        while n_wanted := max_records - len(messages):
            found = self._reader.read(n_wanted, ends, stops)
            for message in found:
                if message.value() is not None:  # else it says that an older record was purged
                    name = _topic_of(message)
                    if name in self._wanted:
                        messages.append(message)
                        names.append(name)
            if len(found) < n_wanted:
                break
        return self._batch(messages, names)

    def commit(self, position: Position) -> None:
        """Record durably that the group has applied everything before ``position``."""
        self._check_open()
        offsets = self._cluster.check_position(position)
        self._commit({partition: offsets[partition] for partition in self._own})

    def seek(self, position: Position) -> None:
        """Poll from ``position`` next."""
        self._places = self._cluster.check_position(position)
        self._reader.move({partition: self._places[partition] for partition in self._own})

    def close(self) -> None:
        """Close the connection; commits stay."""
        if self._is_open:
            self._is_open = False
            self._consumer.close()

    def _make(self) -> Any:
        return self._cluster.consumer(self._group)

    def _begin(self, start: Position | None) -> dict[int, int]:
        places = self._cluster.begins() if start is None else self._cluster.check_position(start)
        if start is None:
            places |= committed(self._cluster, self._consumer, self._own)
        self._reader.move({partition: places[partition] for partition in self._own})
        return places

    def _commit(self, offsets: dict[int, int]) -> None:
        if offsets:
            with self._cluster.errors("committed"):
                self._consumer.commit(offsets=self._cluster.places(offsets), asynchronous=False)

    def _batch(self, messages: list[Any], names: list[str]) -> RecordBatch:
        n = self._cluster.n_partitions
        codes = self._code_by_topic
        return RecordBatch(
            offsets=np.array([m.offset() * n + m.partition() for m in messages], dtype=np.int64),
            appended_ms=np.array([m.timestamp()[1] for m in messages], dtype=np.int64),
            topics=np.array([codes.setdefault(name, len(codes)) for name in names], dtype=np.int16),
            topic_names=tuple(codes),
            data=tuple(m.value() for m in messages),
            end=self.position,
        )

    def _check_open(self) -> None:
        if not self._is_open:
            raise consumer_is_closed(self._group)


class KafkaMember(KafkaConsumer):
    """One of several consumers that share a group's partitions; see `millrace.stream.log.Member`.

    Brokers spread the partitions over the members that poll, and spread them anew when one comes, leaves, or is not
    heard of for ``session.timeout.ms`` (or does not poll for ``max.poll.interval.ms``).
    """

    def __init__(self, cluster: KafkaCluster, group: str, topics: Iterable[str] | None, without: Iterable[str]) -> None:
        super().__init__(cluster, group, topics, without, (), None)

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that were this member's at its newest poll."""
        return frozenset(self._reader.positions)

    def poll(self, max_records: int, *, before: Position | None = None) -> RecordBatch:
        """Return the next records of the member's partitions, which change with the group; see `Consumer.poll`."""
        self._check_open()
        self._reader.fetch(0.0 if self._reader.positions else 0.05)
        return super().poll(max_records, before=before)

    def commit(self, position: Position) -> None:
        """Record that everything that this member was given so far is applied; ``position`` is its newest batch's end.

        Raises
        ------
        PartitionsMovedError
            If the partitions were spread anew meanwhile: what was read since the last commit comes again.
        """
        self._check_open()
        if position != self.position:
            raise LogError(
                "log position",
                value=position,
                problem=f"not the end of the member's newest batch, {self.position}",
                remedy="apply a batch, commit its end, then poll the next one",
            )
        try:
            self._commit(dict(self._reader.positions))
        except LogError as error:
            cause = error.__cause__
            code = cause.args[0].code() if isinstance(cause, self._cluster.kafka.KafkaException) else None
            if code not in _MOVED_CODES:
                raise
            raise PartitionsMovedError(
                "member of a group",
                value=self._group,
                problem="its partitions are being spread anew; nothing was committed",
                remedy="forget what was read since the last commit and poll again",
            ) from error

    def seek(self, position: Position) -> None:
        """Refuse: a member reads on where its group is."""
        raise LogError(
            "member of a group",
            value=self._group,
            problem=f"cannot be moved to {position}: its partitions come and go",
            remedy="subscribe with a start, or commit a position for the group before anybody joins",
        )

    def _begin(self, start: Position | None) -> dict[int, int]:  # noqa: ARG002 - a member begins where its group is
        with self._cluster.errors("read"):
            self._consumer.subscribe([self._cluster.topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        return self._cluster.begins()

    def _on_assign(self, consumer: Any, places: list[Any]) -> None:
        own = [place.partition for place in places]
        self._reader.move(self._cluster.begins(own) | committed(self._cluster, consumer, own))

    def _on_revoke(self, consumer: Any, _places: list[Any]) -> None:
        self._places |= self._reader.positions
        self._reader.positions.clear()
        consumer.unassign()


def committed(cluster: KafkaCluster, consumer: Any, partitions: Collection[int]) -> dict[int, int]:
    """Return what a consumer's group has committed, by partition; those without a commit are left out."""
    if not partitions:
        return {}
    with cluster.errors("read"):
        found = consumer.committed(cluster.places(dict.fromkeys(partitions, 0)), timeout=cluster.config.timeout_s)
    return {place.partition: place.offset for place in found if place.offset >= 0}


def _topic_of(message: Any) -> str:
    for name, value in message.headers() or ():
        if name == TOPIC_HEADER:
            return str(value, "utf-8")
    return ""
