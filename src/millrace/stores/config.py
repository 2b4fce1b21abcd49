"""`StoresConfig`: how much the state remembers (section ``[stores]``)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from millrace.stores.engagement_config import EngagementConfig, SeenConfig


class StoresConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes and times of the stores. A change needs a state folded anew: checkpoints of another setting are refused."""

    # --- code tables (stores/codes.py)
    max_codes: Annotated[
        int,
        Meta(
            ge=1, le=1 << 24, description="Most names per table of languages, topics and labels; later ones are unknown"
        ),
    ] = 65_536

    # --- in-network post store (stores/post_store.py)
    max_originals_per_author: Annotated[
        int, Meta(ge=1, le=32_768, description="Newest originals and quotes kept per author")
    ] = 50
    max_secondary_per_author: Annotated[
        int, Meta(ge=1, le=32_768, description="Newest replies and reposts kept per author")
    ] = 30
    max_videos_per_author: Annotated[
        int, Meta(ge=1, le=32_768, description="Newest posts with a video kept per author")
    ] = 100
    post_retention_ms: Annotated[
        int, Meta(ge=60_000, description="Posts older than this, by the log's watermark, are let go")
    ] = 172_800_000
    n_trim_slices: Annotated[
        int, Meta(ge=1, le=1_000, description="Authors are trimmed in this many slices, one a minute of the watermark")
    ] = 5

    # --- counters, popularity, engagement index, histories (stores/engagements.py) and seen posts (stores/seen.py)
    engagements: EngagementConfig = EngagementConfig()
    seen: SeenConfig = SeenConfig()
