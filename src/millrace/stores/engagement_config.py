"""Settings of the engagement store. All of them shape state: processes that fold one log must agree on them."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from millrace.base.errors import ConfigError
from millrace.base.ids import Int64Array

HOUR_MS: Final = 3_600_000

HalfLivesMs = Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1, max_length=8)]

_HEAT_WEIGHTS: Final = {
    "like": 1.0,
    "reply": 2.0,
    "repost": 2.0,
    "quote": 2.0,
    "share": 2.0,
    "share_dm": 2.0,
    "copy_link": 1.0,
    "bookmark": 1.0,
    "click": 0.1,
    "photo_expand": 0.1,
    "video_view": 0.1,
    "dwell": 0.1,
    "complete": 0.5,
    "follow_author": 4.0,
}


class DwellThresholds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the dwell family begins and ends; equal for every process that folds one log."""

    short_ms: Annotated[int, Meta(ge=0, description="shorter than this is not dwelled")] = 3_000
    valid_ms: Annotated[int, Meta(ge=0, description="longer than this is a valid view (dwell)")] = 6_000
    max_ms: Annotated[int, Meta(ge=1, le=86_400_000, description="longer than this counts as this")] = 600_000

    def check(self) -> None:
        """Raise `ConfigError` unless ``short_ms <= valid_ms < max_ms``."""
        if not self.short_ms <= self.valid_ms < self.max_ms:
            raise ConfigError(
                "dwell thresholds",
                value=(self.short_ms, self.valid_ms, self.max_ms),
                problem="not in order",
                remedy="keep short_ms <= valid_ms < max_ms",
            )

    def as_array(self) -> Int64Array:
        """Return (short_ms, valid_ms, max_ms), shape (3,), int64, for kernels."""
        return np.array([self.short_ms, self.valid_ms, self.max_ms], dtype=np.int64)


class EngagementConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counters, popularity, the engagement index and histories."""

    post_half_lives_ms: Annotated[
        HalfLivesMs, Meta(description="half-lives of post counters, in milliseconds; 0 counts for ever")
    ] = (6 * HOUR_MS, 0)
    author_half_lives_ms: Annotated[
        HalfLivesMs, Meta(description="half-lives of author counters, in milliseconds; 0 counts for ever")
    ] = (7 * 24 * HOUR_MS, 0)
    topic_half_lives_ms: Annotated[
        HalfLivesMs, Meta(description="half-lives of topic counters, in milliseconds; 0 counts for ever")
    ] = (6 * HOUR_MS, 7 * 24 * HOUR_MS)
    retention_ms: Annotated[
        int,
        Meta(
            ge=HOUR_MS,
            description="a post to which nothing happened for so long is forgotten, and so is who did what to it",
        ),
    ] = 72 * HOUR_MS
    heat_half_life_ms: Annotated[int, Meta(ge=60_000, description="half-life of popularity")] = 6 * HOUR_MS
    heat_weights: Annotated[
        dict[str, Annotated[float, Meta(ge=0.0)]],
        Meta(description="weight of each action in popularity and in affinity; actions not named have none"),
    ] = msgspec.field(default_factory=lambda: dict(_HEAT_WEIGHTS))
    max_popular: Annotated[int, Meta(ge=1, le=65_536, description="how many of the hottest posts are kept")] = 2_048
    indexed_actions: Annotated[
        tuple[str, ...], Meta(description="actions kept in the index of who did what to which post")
    ] = ("like", "reply", "repost", "quote", "share", "bookmark")
    max_engagers: Annotated[int, Meta(ge=1, le=65_536, description="newest indexed actions kept per post")] = 128
    max_engaged: Annotated[int, Meta(ge=1, le=65_536, description="newest indexed actions kept per user")] = 128
    max_history: Annotated[
        int, Meta(ge=1, le=65_536, description="actions kept per user: the newest, deliberate ones longest")
    ] = 1_024
    affinity_half_life_ms: Annotated[
        int, Meta(ge=60_000, description="half-life of a viewer's affinity to an author")
    ] = 7 * 24 * HOUR_MS
    windows_ms: Annotated[
        tuple[Annotated[int, Meta(ge=60_000, le=31 * 24 * HOUR_MS, multiple_of=60_000)], ...],
        Meta(
            max_length=8,
            description="sliding windows of the feature store, whole minutes, shortest first; some 60 bytes an "
            "impression of the longest; [] keeps none",
        ),
    ] = (HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS)
    dwell: DwellThresholds = DwellThresholds()


class SeenConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a viewer has seen and has been served. Lengths shape state; times are applied by readers."""

    max_seen: Annotated[int, Meta(ge=1, le=65_536, description="newest seen posts kept per viewer")] = 2_048
    max_served: Annotated[int, Meta(ge=1, le=65_536, description="newest served posts kept per viewer")] = 1_024
    seen_ttl_ms: Annotated[int, Meta(ge=0, description="how long a seen post counts as seen")] = 7 * 24 * HOUR_MS
    served_ttl_ms: Annotated[int, Meta(ge=0, description="how long a served post counts as served")] = 7 * 24 * HOUR_MS
