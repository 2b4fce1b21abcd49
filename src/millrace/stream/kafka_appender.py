"""`KafkaAppender`: the write path of a `KafkaLog`.

Before an append, what others appended since is read, and its event ids are taken into the duplicate window: Kafka
itself knows nothing of them. So a duplicate is found wherever it was appended before; two processes that append
the same new event within the same few milliseconds may both get it in. An append is one transaction, unless the
config says otherwise.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import LogError
from millrace.base.ids import Int64Array
from millrace.stream.dedup import DuplicateWindow, digest_bytes, digests_from, load_kernels
from millrace.stream.kafka_cluster import KafkaCluster
from millrace.stream.kafka_consumer import TOPIC_HEADER
from millrace.stream.kafka_reader import KafkaReader
from millrace.stream.log import AppendResult, Message
from millrace.stream.partitions import partition_of

_READ_AT_ONCE: Final = 50_000


class KafkaAppender:
    """Appends to one log; safe to use from several threads, which take turns.

    Parameters
    ----------
    cluster
        The brokers.
    clock
        Stamps appends.
    window
        How many events the duplicate window holds.
    """

    def __init__(self, cluster: KafkaCluster, clock: Clock, window: int) -> None:
        self._cluster = cluster
        self._clock = clock
        self._window_size = window
        self._lock = threading.Lock()
        self._producer: Any = None
        self._window: DuplicateWindow | None = None  # filled by the first append: readers never pay for it
        self._consumer: Any = None
        self._reader: KafkaReader | None = None
        self._marks: dict[int, int] = {}  # where this process's newest transaction ends in a partition

    def append(self, messages: Sequence[Message]) -> AppendResult:
        """Make messages durable; see `KafkaLog.append`."""
        digests = digests_from(digest_bytes([message.event_id for message in messages]))
        load_kernels()
        with self._lock:
            try:
                ends = self._catch_up()
                assert self._window is not None
                is_new = self._window.admit(digests)
                with self._cluster.errors("written"):
                    places = self._write([message for message, new in zip(messages, is_new, strict=True) if new])
                self._pass_own(places)
            except BaseException:
                self._forget()  # the window may know what the log does not
                raise
        offsets = np.full(len(messages), -1, dtype=np.int64)
        n = self._cluster.n_partitions
        offsets[is_new] = np.array([offset * n + partition for partition, offset in places], dtype=np.int64)
        for partition, offset in places:
            ends[partition] = max(ends[partition], offset + 1)
        return AppendResult(offsets, self._cluster.position(ends))

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._forget()

    def _write(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Produce messages and wait for all; return each one's partition and offset."""
        if not messages:
            return []
        producer = self._ready_producer()
        if not self._cluster.config.is_atomic:
            places, errors = self._produce(producer, messages)
            self._check(errors)
            return places
        producer.begin_transaction()
        try:
            places, errors = self._produce(producer, messages)
            # Where a message failed, the commit tells why; the message may only say that it was given up.
            producer.commit_transaction(self._cluster.config.timeout_s)
            self._check(errors)
        except BaseException:
            with contextlib.suppress(self._cluster.kafka.KafkaException):
                producer.abort_transaction(self._cluster.config.timeout_s)
            raise
        return places

    def _check(self, errors: Sequence[Any]) -> None:
        if errors:
            raise self._cluster.our_error(errors[0], "written")

    def _produce(self, producer: Any, messages: Sequence[Message]) -> tuple[list[tuple[int, int]], list[Any]]:
        """Produce messages; return their places and the errors of those that have none."""
        cluster, now_ms, n = self._cluster, self._clock.now_ms(), self._cluster.n_partitions
        places: list[tuple[int, int]] = [(-1, -1)] * len(messages)
        errors: list[Any] = []

        def tell(place: int, error: Any, delivered: Any) -> None:
            if error is not None:
                errors.append(error)
            else:
                places[place] = (delivered.partition(), delivered.offset())

        deadline_s = time.monotonic() + cluster.config.timeout_s
        for i, message in enumerate(messages):
            arguments = {
                "value": message.data,
                "key": message.event_id.encode(),
                "partition": partition_of(message.key, n),
                "timestamp": now_ms,
                "headers": [(TOPIC_HEADER, message.topic.encode())],
                "on_delivery": lambda error, delivered, i=i: tell(i, error, delivered),
            }
            while True:
                try:
                    producer.produce(cluster.topic, **arguments)
                    break
                except BufferError:  # more than it holds at once: wait for some to be delivered
                    if time.monotonic() > deadline_s:
                        raise self._late() from None
                    producer.poll(0.05)
        if producer.flush(cluster.config.timeout_s):
            raise self._late()
        return places, errors

    def _late(self) -> LogError:
        return LogError(
            "log on kafka",
            value=self._cluster.topic,
            problem=f"an append took more than {self._cluster.config.timeout_s} s; whether it is in is unknown",
            remedy="look after the brokers, then send the events again: what is in is dropped as a duplicate",
        )

    def _ready_producer(self) -> Any:
        if self._producer is None:
            timeout_s = self._cluster.config.timeout_s
            if self._cluster.config.is_atomic:
                producer = self._cluster.producer(
                    transactional_id=f"{self._cluster.topic}-{secrets.token_hex(8)}",
                    transaction_timeout_ms=int(timeout_s * 1000),
                )
                producer.init_transactions(timeout_s)
            else:
                producer = self._cluster.producer()
            self._producer = producer
        return self._producer

    def _catch_up(self) -> dict[int, int]:
        """Take in what was appended since, by whomever; return where partitions ended then."""
        ends = self._cluster.ends()
        reader = self._reader
        if reader is None:
            reader = self._new_reader(ends)
        window = self._window
        assert window is not None
        for partition, mark in self._marks.items():
            # Where one offset lies between this process's newest record and the end, it is the mark of its transaction.
            if reader.positions[partition] == mark and ends[partition] == mark + 1:
                reader.positions[partition] = mark + 1
        self._marks.clear()
        for keys in self._keys_until(reader, ends):
            window.admit(digests_from(digest_bytes(keys)))
        return ends

    def _keys_until(self, reader: KafkaReader, ends: dict[int, int]) -> Iterator[list[str]]:
        while True:
            found = reader.read(_READ_AT_ONCE, ends)
            if found:  # partitions have no common order but their appenders' clocks
                found.sort(key=lambda message: (message.timestamp()[1], message.partition(), message.offset()))
                yield [str(message.key(), "utf-8") for message in found if message.key()]
            if len(found) < _READ_AT_ONCE:
                return

    def _new_reader(self, ends: dict[int, int]) -> KafkaReader:
        begins = self._cluster.begins()
        # A transaction's mark takes an offset too, so there may be as many of those as there are records.
        n_back = -(-2 * self._window_size // self._cluster.n_partitions)
        self._window = DuplicateWindow(self._window_size)
        self._consumer = self._cluster.consumer("appenders", queued_max_messages_kbytes=16_384)
        self._reader = KafkaReader(self._cluster, self._consumer, self._cluster.topic)
        self._reader.move({p: max(begins[p], end - n_back) for p, end in ends.items()})
        return self._reader

    def _pass_own(self, places: list[tuple[int, int]]) -> None:
        """Do not read again what this append has just written, where nothing of others lies in between."""
        assert self._reader is not None
        positions = self._reader.positions
        for partition in {partition for partition, _ in places}:
            own = sorted(offset for p, offset in places if p == partition)
            if own[0] == positions[partition] and own[-1] - own[0] + 1 == len(own):
                positions[partition] = own[-1] + 1
                if self._cluster.config.is_atomic:
                    self._marks[partition] = own[-1] + 1

    def _forget(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
        self._consumer = self._reader = self._window = self._producer = None
        self._marks.clear()


def tombstones(cluster: KafkaCluster, offsets: Int64Array) -> int:
    """Write, for records at encoded offsets, what lets compaction remove them; return how many there were."""
    n = cluster.n_partitions
    wanted = sorted((int(offset) % n, int(offset) // n) for offset in np.unique(offsets))
    with cluster.errors("written"):
        ends, begins = cluster.ends(), cluster.begins()
        consumer, producer = cluster.consumer("purge"), cluster.producer()
        n_found = 0
        try:
            reader = KafkaReader(cluster, consumer, cluster.topic)
            for partition, offset in wanted:
                if not begins[partition] <= offset < ends[partition]:
                    continue
                if reader.positions.get(partition) != offset:
                    reader.move({partition: offset})
                found = reader.read(1, {partition: ends[partition]}, {partition: offset + 1})
                if found and found[0].value() is not None:
                    _, stamp = found[0].timestamp()
                    producer.produce(
                        cluster.topic,
                        value=None,
                        key=found[0].key(),
                        partition=partition,
                        timestamp=stamp,
                        headers=found[0].headers(),
                    )
                    n_found += 1
            if producer.flush(cluster.config.timeout_s):
                raise LogError(
                    "log on kafka",
                    value=cluster.topic,
                    problem="not all tombstones were written in time",
                    remedy="look after the brokers, then purge again",
                )
        finally:
            consumer.close()
    return n_found
