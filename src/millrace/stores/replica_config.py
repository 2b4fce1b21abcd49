"""`ReplicaConfig`: how processes follow the log and what the keeper keeps (section ``[replica]``)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class ReplicaConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Following the log, checkpoints, retention."""

    poll_interval_ms: Annotated[int, Meta(ge=1, le=50, description="How often a worker looks for new events")] = 10
    fold_records: Annotated[
        int,
        Meta(ge=1, le=65_536, description="Most records folded at once while requests wait"),
    ] = 1_000
    catch_up_records: Annotated[
        int, Meta(ge=1, le=1 << 20, description="Records per step where no request can wait")
    ] = 16_384
    checkpoint_every_s: Annotated[
        float, Meta(gt=0, description="The keeper writes a checkpoint after this long, if anything happened")
    ] = 300.0
    checkpoint_every_records: Annotated[
        int, Meta(ge=1, description="... or after this many records; bounds the tail that a restart folds")
    ] = 150_000
    n_checkpoints: Annotated[
        int, Meta(ge=2, le=100, description="Checkpoints kept; a damaged one is replaced by the one before")
    ] = 3
    log_retention_ms: Annotated[
        int,
        Meta(
            ge=0,
            description="Records of the log are kept at least this long, and always those after the oldest "
            "checkpoint and those that the warehouse has not exported yet",
        ),
    ] = 7 * 86_400_000
    content_retention_ms: Annotated[
        int, Meta(ge=0, description="Texts of posts are kept this long after their creation")
    ] = 30 * 86_400_000
    exports_to_warehouse: Annotated[
        bool, Meta(description="Whether the keeper exports the log to Parquet before it is trimmed")
    ] = True
    refresh_social_every_s: Annotated[
        float,
        Meta(gt=0, description="The keeper computes social vectors anew after this long, for models that read them"),
    ] = 600.0
