"""`SampleConfig`: how the process that joins makes and keeps samples (section ``[flywheel.samples]``)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class SampleConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[flywheel.samples]``: epochs, retention, the alarm."""

    epoch_every_s: Annotated[
        float,
        Meta(gt=0, le=3_600, description="How often the join commits what it has let out; also how much is redone"),
    ] = 20.0
    epoch_records: Annotated[
        int, Meta(ge=1, le=100_000_000, description="It commits after so many records of the log, if that is earlier")
    ] = 500_000
    epoch_mb: Annotated[
        int,
        Meta(ge=1, le=65_536, description="It commits after so many megabytes of features heard, if that is earlier"),
    ] = 128
    publishes: Annotated[
        bool, Meta(description="Write samples to the log's topic flywheel.samples, too, not to Parquet alone")
    ] = True
    retention_ms: Annotated[int, Meta(ge=86_400_000, description="For so long samples are kept, in event time")] = (
        30 * 86_400_000
    )
    min_join_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Alarm: less than this share of the looks at logged pages found its page, or of the actions "
            "a look",
        ),
    ] = 0.8
    max_join_rate_fall: Annotated[
        float, Meta(ge=0, le=1, description="Alarm: the join rate has fallen by this much below what it was before")
    ] = 0.1
    alarm_looks: Annotated[
        int,
        Meta(
            ge=1,
            description="The join rate is told of at least so many of the newest looks, or actions; of fewer, no alarm",
        ),
    ] = 1_000
