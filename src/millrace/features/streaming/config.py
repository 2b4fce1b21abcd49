"""`StreamingConfig`: how the streaming feature pipeline is divided."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class StreamingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Partitions and queues of the streaming feature pipeline."""

    n_post_partitions: Annotated[int, Meta(ge=1, le=64, description="threads that count what is done to posts")] = 1
    n_user_partitions: Annotated[int, Meta(ge=1, le=64, description="threads that keep what users do")] = 1
    max_batches: Annotated[
        int, Meta(ge=1, le=65_536, description="batches that may wait for a partition; then the producer waits")
    ] = 64
