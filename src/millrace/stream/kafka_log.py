"""`KafkaLog`: the log on a Kafka cluster (brokers 2.5 or newer).

One topic holds all events, so that a key's events keep one order whatever their type; a partition of the log is a
partition of the topic, and a position has one offset for each. What Kafka does in another way than the embedded log:

* There is no order between partitions. With one partition there is one order, which a home's replicas need.
* A record's number in batches and results is ``offset * n_partitions + partition``. Marks of transactions take offsets
  too: `lag` counts them, so it is an upper bound, and zero exactly where nothing is left.
* An append becomes readable when its transaction's mark is written, some milliseconds after it was acknowledged. With
  ``is_atomic = false`` there are no transactions: an append that fails may have left some of its events.
* The duplicate window is exact for one appender after another; of two that append the same new event within the same
  milliseconds, both may get it in. After a restart it is filled from the newest records.
* `purge` writes tombstones: brokers remove the records when they compact, ``max_erase_lag_ms`` later at the latest, and
  until then they are read as they were. Two records of one event id are compacted to the newer one.
* Dead letters are a topic; beyond ``max_dead_letter_bytes`` brokers drop the oldest. ``max_dead_letters`` is not used.

Where things are: brokers, topics and errors in `kafka_cluster`, the write path in `kafka_appender`, fetching in
`kafka_reader`, consumers and members in `kafka_consumer`, dead letters in `kafka_letters`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import LogError
from millrace.base.ids import Int64Array
from millrace.stream.config import LogConfig
from millrace.stream.kafka_appender import KafkaAppender, tombstones
from millrace.stream.kafka_cluster import KafkaCluster
from millrace.stream.kafka_consumer import KafkaConsumer, KafkaMember, committed
from millrace.stream.kafka_letters import KafkaLetters
from millrace.stream.log import DUPLICATE_WINDOW, AppendResult, DeadLetter, Message, Position
from millrace.stream.partitions import partition_mask
from millrace.stream.positions import check_messages
from millrace.stream.server_config import KafkaLogConfig

_DEFAULTS: Final = LogConfig()


class KafkaLog:
    """A durable log on a Kafka cluster. Safe to use from several threads; to be opened after a fork, not before.

    Parameters
    ----------
    server_config
        Where the brokers are, and what is asked of them.
    clock
        Stamps appends and dead letters.
    n_partitions, duplicate_window
        Written into a new log; must agree with an existing one.
    max_event_bytes, max_dead_letter_bytes
        See `LogConfig`.

    Raises
    ------
    ConfigError
        If the ``confluent-kafka`` package is not installed, or does not know an option.
    LogError
        If no broker answers, or there is a log of other settings.
    """

    def __init__(
        self,
        server_config: KafkaLogConfig,
        clock: Clock,
        n_partitions: int = 16,
        *,
        duplicate_window: int = DUPLICATE_WINDOW,
        max_event_bytes: int = _DEFAULTS.max_event_bytes,
        max_dead_letter_bytes: int = _DEFAULTS.max_dead_letter_bytes,
    ) -> None:
        self._n_partitions = n_partitions
        self._cluster = KafkaCluster(
            server_config, n_partitions, duplicate_window, max_event_bytes, max_dead_letter_bytes
        )
        self._appender = KafkaAppender(self._cluster, clock, duplicate_window)
        self._letters = KafkaLetters(self._cluster, clock)
        self._is_open = True

    @classmethod
    def from_config(cls, clock: Clock, config: LogConfig) -> KafkaLog:
        """Open a log as its settings say."""
        return cls(
            config.kafka,
            clock,
            config.n_partitions,
            duplicate_window=config.duplicate_window,
            max_event_bytes=config.max_event_bytes,
            max_dead_letter_bytes=config.max_dead_letter_bytes,
        )

    @property
    def log_id(self) -> str:
        """Drawn when the log was made."""
        return self._cluster.log_id

    @property
    def n_partitions(self) -> int:
        """How many partitions keys are spread over."""
        return self._n_partitions

    def append(self, messages: Sequence[Message]) -> AppendResult:
        """Make messages durable, all or none; see `Log.append`, and the module for what a failure may leave."""
        self._check_open()
        check_messages(messages)
        if not messages:
            return AppendResult(np.zeros(0, dtype=np.int64), self.end())
        return self._appender.append(messages)

    def subscribe(
        self,
        group: str,
        *,
        topics: Collection[str] | None = None,
        without: Collection[str] = (),
        partitions: Collection[int] | None = None,
        start: Position | None = None,
    ) -> KafkaConsumer:
        """Return a consumer; see `Log.subscribe`. What it does not want is fetched all the same, and passed over."""
        self._check_open()
        mask = partition_mask(partitions, self._n_partitions)
        own = range(self._n_partitions) if mask is None else np.flatnonzero(mask).tolist()
        return KafkaConsumer(self._cluster, group, topics, without, own, start)

    def join(self, group: str, *, topics: Collection[str] | None = None, without: Collection[str] = ()) -> KafkaMember:
        """Return a consumer that shares the group's partitions with its other members; see `SharedLog.join`."""
        self._check_open()
        return KafkaMember(self._cluster, group, topics, without)

    def begin(self) -> Position:
        """Return the position of the oldest kept record."""
        self._check_open()
        return self._cluster.position(self._cluster.begins())

    def end(self) -> Position:
        """Return the position after the newest record that can be read."""
        self._check_open()
        return self._cluster.position(self._cluster.ends())

    def lag(self, group: str) -> int:
        """Return how many kept records the group has not committed yet, marks of transactions counted with them."""
        self._check_open()
        begins, ends = self._cluster.begins(), self._cluster.ends()
        with self._cluster.errors("read"):
            consumer: Any = self._cluster.consumer(group)
            try:
                done = committed(self._cluster, consumer, list(ends))
            finally:
                consumer.close()
        return sum(max(end - max(done.get(p, 0), begins[p]), 0) for p, end in ends.items())

    def trim(self, before: Position) -> int:
        """Forget records before ``before``; return how many offsets that were."""
        self._check_open()
        offsets, begins = self._cluster.check_position(before), self._cluster.begins()
        wanted = {partition: offset for partition, offset in offsets.items() if offset > begins[partition]}
        if wanted:
            with self._cluster.errors("trimmed"):
                answers = self._cluster.admin.delete_records(
                    self._cluster.places(wanted), request_timeout=self._cluster.config.timeout_s
                )
                for answer in answers.values():
                    answer.result()
        return sum(offset - begins[partition] for partition, offset in wanted.items())

    def purge(self, offsets: Int64Array) -> int:
        """Let single records be removed when brokers compact; return how many there were."""
        self._check_open()
        return tombstones(self._cluster, offsets) if len(offsets) else 0

    def dead_letter(self, letters: Sequence[tuple[str, str, str, bytes]]) -> None:
        """Keep refused messages: (topic, origin, reason, data) each."""
        self._check_open()
        if letters:
            self._letters.add(letters)

    def dead_letters(self, *, after_id: int = 0) -> Iterator[DeadLetter]:
        """Yield the kept refused messages, oldest first."""
        self._check_open()
        yield from self._letters.read(after_id)

    def remove_dead_letters(self, letter_ids: Sequence[int]) -> int:
        """Remove letters; return how many there were."""
        self._check_open()
        return self._letters.remove(letter_ids)

    def flush(self) -> None:
        """Return at once: an append is acknowledged when the brokers have it as durable as its topic is set to."""
        self._check_open()

    def close(self) -> None:
        """Close the log's own connections; consumers close theirs."""
        self._is_open = False
        self._appender.close()

    def _check_open(self) -> None:
        if not self._is_open:
            raise LogError("log", value=self._cluster.topic, problem="already closed", remedy="open it again")
