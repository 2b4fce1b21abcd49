"""`LogConfig`: the settings of the log and of the door in front of it (section ``[log]``)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from millrace.stream.log import DUPLICATE_WINDOW
from millrace.stream.server_config import KafkaLogConfig, RedisLogConfig


class LogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the log is, how it is kept, and what the door lets in.

    ``n_partitions`` and ``duplicate_window`` belong to the log: they are written into it when it is made, and
    opening it with others is refused. ``busy_timeout_ms`` and ``min_free_bytes`` are the embedded log's alone.
    """

    backend: Annotated[
        Literal["sqlite", "redis", "kafka"],
        Meta(description="sqlite (a file of the home, one machine), redis or kafka (servers, several machines)"),
    ] = "sqlite"
    redis: RedisLogConfig = RedisLogConfig()
    kafka: KafkaLogConfig = KafkaLogConfig()

    n_partitions: Annotated[
        int, Meta(ge=1, le=4096, description="Partitions that keys are spread over; fixed when the log is made")
    ] = 16
    duplicate_window: Annotated[
        int,
        Meta(
            ge=1,
            le=1 << 26,
            description="Newest events remembered for dropping duplicates; fixed when the log is made",
        ),
    ] = DUPLICATE_WINDOW
    busy_timeout_ms: Annotated[int, Meta(ge=0, description="How long an append waits for another process's append")] = (
        30_000
    )
    min_free_bytes: Annotated[
        int, Meta(ge=0, description="Appends are refused below this much free disk, so that commits keep working")
    ] = 64 << 20
    max_dead_letters: Annotated[
        int, Meta(ge=1, description="Dead letters kept; beyond it the oldest are dropped and counted")
    ] = 100_000
    max_dead_letter_bytes: Annotated[
        int, Meta(ge=1, description="Bytes of dead letters kept; beyond it the oldest are dropped and counted")
    ] = 256 << 20
    max_event_bytes: Annotated[int, Meta(ge=1024, le=16 << 20, description="Largest event that the door lets in")] = (
        1 << 20
    )
    max_batch_events: Annotated[
        int, Meta(ge=1, le=65_536, description="Events that the door appends in one transaction")
    ] = 4_096
