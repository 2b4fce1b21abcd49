"""`WorldConfig`: everything that shapes the world; ``[world]`` in the configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

_JOINING_DAYS: Final = 7
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

DEFAULT_LANGUAGE_SHARES: Final = {"en": 0.46, "es": 0.15, "zh": 0.12, "ja": 0.11, "ar": 0.08, "de": 0.08}

SizeName = Literal["tiny", "demo", "100k"]
MechanismName = Literal["gate", "multi", "shifted"]


@dataclass(frozen=True, slots=True)
class Size:
    """What one size of world means.

    Parameters
    ----------
    n_users
        People in it.
    originals_per_day
        Mean number of original posts per person and day, silent ones included.
    sessions_per_day
        Mean number of visits per person and day.
    slice_ms
        Sessions of one slice read the world at its beginning.
    """

    n_users: int
    originals_per_day: float
    sessions_per_day: float
    slice_ms: int


SIZES: Final[dict[str, Size]] = {
    "tiny": Size(n_users=80, originals_per_day=2.2, sessions_per_day=2.0, slice_ms=HOUR_MS),
    "demo": Size(n_users=2_000, originals_per_day=2.1, sessions_per_day=3.6, slice_ms=HOUR_MS // 2),
    "100k": Size(n_users=100_000, originals_per_day=4.2, sessions_per_day=2.4, slice_ms=HOUR_MS // 2),
}


class WorldConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The world's shape. The defaults are chosen to look like a small, lively network; each says why."""

    size: Annotated[
        SizeName, Meta(description="tiny (tests), demo (2,000 people, some 10k live posts), 100k (1M live posts)")
    ] = "demo"
    mechanism: Annotated[
        MechanismName,
        Meta(
            description="The law of behaviour: gate (one affinity drives all), multi (every kind of action has its "
            "own), shifted (other links, noise between any two; kept out of every tuning)"
        ),
    ] = "gate"
    seed: Annotated[int, Meta(ge=0, description="Same seed and time, same events, byte for byte")] = 1
    n_users: Annotated[int, Meta(ge=10, le=5_000_000, description="Overrides the size's number of people")] | None = (
        None
    )
    history_ms: Annotated[
        int, Meta(ge=HOUR_MS, le=30 * DAY_MS, description="Length of the history; longer than the feed's 48 h")
    ] = 56 * HOUR_MS
    founding_ms: Annotated[
        int, Meta(ge=HOUR_MS, description="Time before the history in which people join and follow")
    ] = 6 * HOUR_MS
    language_shares: Annotated[
        dict[str, float], Meta(description="Share of people by first language; languages need a vocabulary")
    ] = field(default_factory=lambda: dict(DEFAULT_LANGUAGE_SHARES))
    second_language_frac: Annotated[float, Meta(ge=0, le=1, description="People who read a second language")] = 0.3
    silent_frac: Annotated[float, Meta(ge=0, le=1, description="People who read and like but never post")] = 0.35
    spammer_frac: Annotated[float, Meta(ge=0, le=1, description="Accounts that post advertising")] = 0.008
    verified_frac: Annotated[float, Meta(ge=0, le=1, description="Verified accounts")] = 0.05
    sensitive_frac: Annotated[float, Meta(ge=0, le=1, description="Posts flagged sensitive by their author")] = 0.015
    image_frac: Annotated[float, Meta(ge=0, le=1, description="Original posts with an image")] = 0.24
    video_frac: Annotated[float, Meta(ge=0, le=1, description="Original posts with a video")] = 0.12
    link_frac: Annotated[float, Meta(ge=0, le=1, description="Original posts with a link")] = 0.10
    edited_frac: Annotated[float, Meta(ge=0, le=1, description="Originals corrected within the hour")] = 0.015
    deleted_frac: Annotated[float, Meta(ge=0, le=1, description="Originals taken back within hours")] = 0.012
    follows_median: Annotated[
        float, Meta(gt=0, description="Median number of follows; log-normal, as wide as Yelp's friends")
    ] = 18.0
    follows_nobody_frac: Annotated[float, Meta(ge=0, le=1, description="People who follow nobody by themselves")] = 0.05
    homophily_frac: Annotated[
        float, Meta(ge=0, le=1, description="Follows within the follower's languages and interests")
    ] = 0.75
    triangle_frac: Annotated[float, Meta(ge=0, le=1, description="Follows that close a triangle")] = 0.08
    reciprocity_frac: Annotated[float, Meta(ge=0, le=1, description="Follows that are returned")] = 0.08
    late_follow_frac: Annotated[
        float, Meta(ge=0, le=1, description="Follows made during the history, and per as much time after it")
    ] = 0.04
    unfollow_frac: Annotated[
        float, Meta(ge=0, le=1, description="Follows taken back during the history, and per as much time after it")
    ] = 0.01
    joins_per_day_frac: Annotated[
        float, Meta(ge=0, le=1, description="People who join per day once the history is over: new viewers and authors")
    ] = 0.02
    drift: Annotated[
        float, Meta(ge=0, le=5, description="How far interests wander within days; log scale, 0 keeps them")
    ] = 0.35
    stories_per_day: Annotated[
        float,
        Meta(ge=0, le=100, description="Stories that break per topic and day; for hours they draw posts and eyes"),
    ] = 0.5
    patience: Annotated[
        float,
        Meta(gt=0, le=200, description="Median position that a viewer scrolls to; looking falls off exponentially"),
    ] = 12.0
    mood_pull: Annotated[
        float, Meta(ge=0, le=10, description="How much satisfaction changes how soon people come back; 0: not at all")
    ] = 1.2
    creator_pull: Annotated[
        float, Meta(ge=0, le=1, description="How much attention changes how much people post; 0: not at all")
    ] = 1.0
    late_frac: Annotated[
        float, Meta(ge=0, le=1, description="Feedback that arrives seconds to hours late, in a run over a feed")
    ] = 0.06
    twice_frac: Annotated[float, Meta(ge=0, le=1, description="Feedback that is sent twice, in a run")] = 0.01
    lost_frac: Annotated[float, Meta(ge=0, le=1, description="Feedback that never arrives, in a run")] = 0.005
    posts_path: Annotated[
        str,
        Meta(description="Folder of the reddit-posts data set: English posts have real texts then; empty: made ones"),
    ] = ""
    states_topics: Annotated[
        bool,
        Meta(
            description="Whether an annotator names each post's topic (the demo's stand-in for content understanding); "
            "off: topics can only be learned from the texts"
        ),
    ] = False

    def n_people(self) -> int:
        """Return how many people there ever are: those of the history, and those who join later."""
        n_users = self.shape().n_users
        return n_users + round(n_users * min(self.joins_per_day_frac * _JOINING_DAYS, 1.0))

    def shape(self) -> Size:
        """Return the size with overrides applied."""
        size = SIZES[self.size]
        if self.n_users is None:
            return size
        return Size(
            n_users=self.n_users,
            originals_per_day=size.originals_per_day,
            sessions_per_day=size.sessions_per_day,
            slice_ms=size.slice_ms,
        )
