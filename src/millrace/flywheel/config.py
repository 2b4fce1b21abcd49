"""``[flywheel]``: what runs beside the feed and learns from it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from millrace.flywheel.join_config import JoinConfig
from millrace.flywheel.learning_config import GateConfig, LearningConfig
from millrace.flywheel.sample_config import SampleConfig


class FlywheelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[flywheel]``: the learning half, beside a server."""

    learns: Annotated[
        bool,
        Meta(description="Learn on from every hour beside the server; needs the extra train. A demo does by default"),
    ] = False
    learning: LearningConfig = LearningConfig()
    gate: GateConfig = GateConfig()
    joins: Annotated[
        bool, Meta(description="Join pages with what was done on them beside the server: samples, as they come")
    ] = True
    join: JoinConfig = JoinConfig()
    samples: SampleConfig = SampleConfig()
