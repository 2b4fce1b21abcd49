"""`KafkaCluster`: how a `KafkaLog` reaches its brokers: topics, where partitions begin and end, errors with names."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from millrace.base.errors import ConfigError, LogError
from millrace.stream.log import Position
from millrace.stream.server_config import KafkaLogConfig

logger = logging.getLogger(__name__)

_OVERHEAD_BYTES: Final = 64 << 10


class _About(msgspec.Struct, frozen=True):
    """What the meta topic says of a log; the first record counts."""

    log_id: str
    n_partitions: int
    duplicate_window: int


class KafkaCluster:
    """The brokers, as one log uses them; safe to use from several threads.

    Parameters
    ----------
    config
        Where, and how long to wait.
    n_partitions, duplicate_window
        Written into a new log; must agree with an existing one.
    max_event_bytes
        Largest event that brokers must take.
    max_dead_letter_bytes
        Beyond it brokers drop the oldest dead letters.

    Raises
    ------
    ConfigError
        If the ``confluent-kafka`` package is not installed, or does not know an option.
    LogError
        If no broker answers, or there is a log of other settings.
    """

    log_id: str
    """Drawn when the log was made: tells it from any other."""

    def __init__(
        self,
        config: KafkaLogConfig,
        n_partitions: int,
        duplicate_window: int,
        max_event_bytes: int,
        max_dead_letter_bytes: int,
    ) -> None:
        try:
            import confluent_kafka
            import confluent_kafka.admin
        except ImportError as error:
            raise ConfigError(
                "log in kafka",
                value=config.servers,
                problem="the confluent-kafka package is not installed",
                remedy="pip install -e '.[kafka]'",
            ) from error
        self.config = config
        self.kafka: Any = confluent_kafka
        self.n_partitions = n_partitions
        self.max_message_bytes = max_event_bytes + _OVERHEAD_BYTES
        self.topic = config.topic
        self.meta_topic = f"{config.topic}.meta"
        self.letters_topic = f"{config.topic}.dead-letters"
        with self.errors("opened"):
            self.admin: Any = confluent_kafka.admin.AdminClient(self.options(), logger=logger)
            self._make_topics(max_dead_letter_bytes)
            self._open(_About(secrets.token_hex(8), n_partitions, duplicate_window))

    def options(self, **more: Any) -> dict[str, Any]:
        """Return librdkafka's properties: where brokers are, how they are talked to, and ``more``, dots as ``_``."""
        config = self.config
        found: dict[str, Any] = {
            "bootstrap.servers": config.servers,
            "security.protocol": config.security_protocol,
            "socket.timeout.ms": int(config.timeout_s * 1000),
            "sasl.mechanism": config.sasl_mechanism,
            "sasl.username": config.sasl_username,
            "sasl.password": config.sasl_password,
            "ssl.ca.location": config.ca_file,
        }
        found = {name: value for name, value in found.items() if value != ""}
        return {**found, **{name.replace("_", "."): value for name, value in more.items()}, **config.client_options}

    def producer(self, *, is_exact: bool = True, **more: Any) -> Any:
        """Return a producer; the retries of an exact one come in once and in order, half a second after it was made."""
        options = self.options(
            acks="all",
            enable_idempotence=is_exact,
            linger_ms=1,
            compression_type="lz4",
            message_max_bytes=self.max_message_bytes,
            message_timeout_ms=int(self.config.timeout_s * 1000),
            **more,
        )
        return self.kafka.Producer({**options, **self.config.producer_options}, logger=logger)

    def consumer(self, group: str, **more: Any) -> Any:
        """Return a consumer that commits nothing by itself and is never moved over a gap."""
        options = self.options(
            group_id=self.group_id(group),
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="error",
            isolation_level="read_committed",
            enable_partition_eof=True,
            fetch_message_max_bytes=self.max_message_bytes,
            **more,
        )
        return self.kafka.Consumer({**options, **self.config.consumer_options}, logger=logger)

    def group_id(self, group: str) -> str:
        """Return how a group of this log is called among all groups of the cluster."""
        return f"{self.topic}.{group}"

    def places(self, offsets: Mapping[int, int]) -> list[Any]:
        """Return partitions with offsets as the library has them."""
        return [self.kafka.TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()]

    def begins(self, partitions: Collection[int] | None = None, topic: str | None = None) -> dict[int, int]:
        """Return the oldest kept offset of partitions (all, if not said), by partition."""
        return self._offsets(self.kafka.admin.OffsetSpec.earliest(), partitions, topic)

    def ends(self, partitions: Collection[int] | None = None, topic: str | None = None) -> dict[int, int]:
        """Return the offset after the newest readable record of partitions, by partition."""
        return self._offsets(self.kafka.admin.OffsetSpec.latest(), partitions, topic)

    def position(self, offsets: Mapping[int, int]) -> Position:
        """Return offsets of all partitions as a position."""
        return tuple(offsets[partition] for partition in range(self.n_partitions))

    def check_position(self, position: Position) -> dict[int, int]:
        """Return a position's offsets by partition; it must be one of this log, not after its end."""
        if len(position) != self.n_partitions or min(position) < 0:
            raise LogError(
                "log position",
                value=position,
                problem="not a position of this log",
                remedy=f"use {self.n_partitions} offsets, at least 0, such as log.begin() returns",
            )
        ends = self.position(self.ends())
        if any(offset > end for offset, end in zip(position, ends, strict=True)):
            raise LogError(
                "log position",
                value=position,
                problem=f"after the end of the log, {ends}",
                remedy="use the log that the position came from, or start from an older checkpoint",
            )
        return dict(enumerate(position))

    @contextlib.contextmanager
    def errors(self, done: str) -> Iterator[None]:
        """Turn the library's errors into ours: the log could not be ``done`` ("written", "read")."""
        try:
            yield
        except self.kafka.KafkaException as error:
            raise self.our_error(error.args[0], done) from error

    def our_error(self, error: Any, done: str) -> LogError:
        """Return an error of the library as one of ours."""
        code = error.code() if hasattr(error, "code") else None
        text = error.str() if hasattr(error, "str") else str(error)
        if code == self.kafka.KafkaError._INVALID_ARG and done == "opened":  # noqa: SLF001 - the library's name
            raise ConfigError(
                "log.kafka",
                problem=f"has an option that the library does not take ({text})",
                remedy="correct log.kafka.client_options; librdkafka's CONFIGURATION.md lists them",
            )
        return LogError(
            "log on kafka",
            value=f"{self.topic} at {self.config.servers}",
            problem=f"cannot be {done} ({text})",
            remedy="look after the brokers, or correct log.kafka; send again what was not acknowledged",
        )

    def _offsets(self, spec: Any, partitions: Collection[int] | None, topic: str | None) -> dict[int, int]:
        name = topic or self.topic
        wanted = range(self.n_partitions) if partitions is None else partitions
        asked = {self.kafka.TopicPartition(name, partition): spec for partition in wanted}
        if not asked:
            return {}
        with self.errors("read"):
            found = self.admin.list_offsets(
                asked,
                isolation_level=self.kafka.IsolationLevel.READ_COMMITTED,
                request_timeout=self.config.timeout_s,
            )
            return {place.partition: int(answer.result().offset) for place, answer in found.items()}

    def _make_topics(self, max_dead_letter_bytes: int) -> None:
        known = self.admin.list_topics(timeout=self.config.timeout_s).topics
        n_replicas = self.config.replication_factor
        common = {
            "min.insync.replicas": str(min(n_replicas, 2)),
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "CreateTime",
            "retention.ms": "-1",
        }
        erased = {"cleanup.policy": "compact,delete", "max.compaction.lag.ms": str(self.config.max_erase_lag_ms)}
        wanted = {
            # Keys are event ids: a purged record's tombstone removes it and nothing else.
            self.topic: (self.n_partitions, {**erased, "retention.bytes": "-1"}),
            self.meta_topic: (1, {"cleanup.policy": "delete", "retention.bytes": "-1"}),
            self.letters_topic: (1, {**erased, "retention.bytes": str(max_dead_letter_bytes)}),
        }
        missing = [
            self.kafka.admin.NewTopic(name, n, n_replicas, config={**common, **config})
            for name, (n, config) in wanted.items()
            if name not in known
        ]
        if missing:
            made = self.admin.create_topics(missing, request_timeout=self.config.timeout_s)
            for answer in made.values():
                try:
                    answer.result()
                except self.kafka.KafkaException as error:
                    if error.args[0].code() != self.kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
        elif (n := len(known[self.topic].partitions)) != self.n_partitions:
            raise _other_setting("n_partitions", self.n_partitions, n, self.topic)

    def _open(self, new: _About) -> None:
        about = self._read_about()
        if about is None:
            producer = self.producer(is_exact=False)  # what comes in twice is the same, and the first record counts
            producer.produce(self.meta_topic, msgspec.json.encode(new), key=b"log", partition=0)
            producer.flush(self.config.timeout_s)
            about = self._read_about()  # somebody else's may have come first
        if about is None:
            raise LogError(
                "log on kafka",
                value=self.meta_topic,
                problem="does not keep what is written to it",
                remedy="look after the brokers; the topic must have cleanup.policy delete and retention.ms -1",
            )
        for name in ("n_partitions", "duplicate_window"):
            if getattr(new, name) != getattr(about, name):
                raise _other_setting(name, getattr(new, name), getattr(about, name), self.topic)
        self.log_id = about.log_id

    def _read_about(self) -> _About | None:
        from millrace.stream.kafka_reader import read_all

        records = read_all(self, self.meta_topic)
        return msgspec.json.decode(records[0].value(), type=_About) if records else None


def _other_setting(name: str, wanted: int, there: int, topic: str) -> LogError:
    return LogError(
        f"log setting {name}",
        value=wanted,
        problem=f"the log {topic} was made with {there}",
        remedy=f"set log.{name} = {there}, or begin a new log (another log.kafka.topic)",
    )
