"""``[flywheel]``: what runs beside the feed and learns from it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from millrace.flywheel.learning_config import GateConfig, LearningConfig


class FlywheelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[flywheel]``: the learning half, beside a server."""

    learns: Annotated[
        bool,
        Meta(description="Learn on from every hour beside the server; needs the extra train. A demo does by default"),
    ] = False
    learning: LearningConfig = LearningConfig()
    gate: GateConfig = GateConfig()
