"""`KafkaLetters`: dead letters in a topic of their own, removed by tombstones."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from millrace.base.clock import Clock
from millrace.base.errors import LogError
from millrace.stream.kafka_cluster import KafkaCluster
from millrace.stream.kafka_reader import read_all
from millrace.stream.log import DeadLetter


class _Letter(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    origin: str
    reason: str
    data: bytes


class KafkaLetters:
    """The refused messages of one log: a letter's id is one more than its offset.

    Parameters
    ----------
    cluster
        The brokers.
    clock
        Stamps letters.
    """

    def __init__(self, cluster: KafkaCluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    def add(self, letters: Sequence[tuple[str, str, str, bytes]]) -> None:
        """Keep letters; returns when they are durable."""
        now_ms = self._clock.now_ms()
        encode = msgspec.msgpack.encode
        self._produce(
            [
                (secrets.token_bytes(8), encode(_Letter(topic, origin, reason, bytes(data))), now_ms)
                for topic, origin, reason, data in letters
            ]
        )

    def read(self, after_id: int) -> list[DeadLetter]:
        """Return the letters after an id, oldest first."""
        found = []
        for letter_id, message in self._kept():
            if letter_id > after_id:
                letter = msgspec.msgpack.decode(message.value(), type=_Letter)
                _, at_ms = message.timestamp()
                found.append(DeadLetter(letter_id, letter.topic, letter.origin, letter.reason, letter.data, at_ms))
        return found

    def remove(self, letter_ids: Sequence[int]) -> int:
        """Remove letters; return how many there were."""
        wanted = set(letter_ids)
        gone = [(message.key(), None, message.timestamp()[1]) for i, message in self._kept() if i in wanted]
        self._produce(gone)
        return len(gone)

    def _kept(self) -> list[tuple[int, Any]]:
        messages = read_all(self._cluster, self._cluster.letters_topic)
        removed = {message.key() for message in messages if message.value() is None}
        return [(m.offset() + 1, m) for m in messages if m.value() is not None and m.key() not in removed]

    def _produce(self, records: Sequence[tuple[bytes, bytes | None, int]]) -> None:
        errors: list[Any] = []
        with self._cluster.errors("written"):
            producer = self._cluster.producer()
            for key, value, stamp in records:
                producer.produce(
                    self._cluster.letters_topic,
                    value=value,
                    key=key,
                    partition=0,
                    timestamp=stamp,
                    on_delivery=lambda error, _: errors.append(error) if error is not None else None,
                )
            n_left = producer.flush(self._cluster.config.timeout_s)
        if errors:
            raise self._cluster.our_error(errors[0], "written")
        if n_left:
            raise LogError(
                "dead letters",
                value=self._cluster.letters_topic,
                problem=f"were not written within {self._cluster.config.timeout_s} s",
                remedy="look after the brokers, then try again",
            )
