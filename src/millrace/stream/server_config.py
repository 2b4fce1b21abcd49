"""`RedisLogConfig`, `KafkaLogConfig`: where a log on servers is, and what its owner asks of them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class RedisLogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log.redis]``: the log on a Redis server; docs/howto/redis.md."""

    url: Annotated[
        str,
        Meta(description="Of the server; one with a password belongs into the environment: MILLRACE__LOG__REDIS__URL"),
    ] = "redis://127.0.0.1:6379/0"
    prefix: Annotated[
        str, Meta(min_length=1, description="Begins every key, so that several logs can share one server")
    ] = "millrace"
    requires_fsync: Annotated[
        bool,
        Meta(
            description="Refuse a server that can lose what it acknowledged or evict it: wants appendonly yes, "
            "appendfsync always, maxmemory-policy noeviction"
        ),
    ] = True
    min_replicas: Annotated[
        int, Meta(ge=0, le=16, description="Replicas of the server that must have an append before it is acknowledged")
    ] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=600, description="Of connecting, of each command and of replicas")] = 5.0
    n_retries: Annotated[
        int,
        Meta(ge=0, le=100, description="Further tries of a command where the connection broke, 50 ms to 1 s apart"),
    ] = 8
    lease_ms: Annotated[
        int,
        Meta(ge=10, le=600_000, description="A member of a group that has not polled for this long loses its share"),
    ] = 30_000


class KafkaLogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log.kafka]``: the log on a Kafka cluster; docs/howto/kafka.md."""

    servers: Annotated[str, Meta(min_length=1, description="Where to begin: host:port, several with commas")] = (
        "127.0.0.1:9092"
    )
    topic: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{1,200}$",
            description="Topic of the events; TOPIC.meta and TOPIC.dead-letters stand beside it",
        ),
    ] = "millrace"
    replication_factor: Annotated[
        int, Meta(ge=1, le=16, description="Of topics that are made; at least two of three must have an append")
    ] = 3
    is_atomic: Annotated[
        bool,
        Meta(
            description="Append in transactions: all of an append or nothing is ever read. Off: an append that fails "
            "may have left some of its events"
        ),
    ] = True
    timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="Of each request, and of an append with its retries")
    ] = 15.0
    max_erase_lag_ms: Annotated[
        int, Meta(ge=60_000, description="Purged records are gone from the disks this long after, at the latest")
    ] = 86_400_000
    security_protocol: Annotated[
        Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"], Meta(description="How brokers are talked to")
    ] = "plaintext"
    sasl_mechanism: Annotated[str, Meta(description="Such as SCRAM-SHA-512; empty for none")] = ""
    sasl_username: Annotated[str, Meta(description="User of the brokers")] = ""
    sasl_password: Annotated[
        str, Meta(description="Belongs into the environment: MILLRACE__LOG__KAFKA__SASL_PASSWORD")
    ] = ""
    ca_file: Annotated[str, Meta(description="Certificates that brokers are checked by; empty for the system's")] = ""
    client_options: Annotated[
        dict[str, str], Meta(description="Further librdkafka properties, of producers and consumers alike")
    ] = {}
    producer_options: Annotated[dict[str, str], Meta(description="Further librdkafka properties of producers")] = {}
    consumer_options: Annotated[
        dict[str, str], Meta(description="Further librdkafka properties of consumers, such as session.timeout.ms")
    ] = {}
