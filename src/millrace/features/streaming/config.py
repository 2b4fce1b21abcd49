"""`StreamingConfig`: how the streaming feature pipeline is divided."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class StreamingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Partitions and queues of the streaming feature pipeline."""

    n_post_partitions: Annotated[int, Meta(ge=1, le=64, description="partitions that count what is done to posts")] = 1
    n_user_partitions: Annotated[
        int, Meta(ge=1, le=64, description="partitions that keep what users do; 1 and 1: one partition does both")
    ] = 1
    has_threads: Annotated[
        bool,
        Meta(
            description="each partition has a thread and a queue, which pays where cores are idle; else whoever hands "
            "events over applies them, and so never runs ahead"
        ),
    ] = False
    max_batches: Annotated[
        int, Meta(ge=1, le=65_536, description="batches that may wait for a thread; then the producer waits")
    ] = 64
