"""`RunPlan`: what a made-up run should hold, truths planted in it included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
BEGAN_MS: Final = 1_700_006_400_000
LANGUAGES: Final = ("en", "es", "zh", "ja", "ar", "de")
TOPICS: Final = ("music", "football", "cooking", "科技", "سفر", "gardening", "physics & <math>", "film")
KINDS: Final = ("original", "reply", "repost", "quote")
SOURCES: Final = ("in_network", "popular", "topical")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What to make up.

    Attributes
    ----------
    seed
        Of the world: people, posts, visits. Twins share it.
    feed_seed
        Of what differs from feed to feed: which posts are served, what is predicted, what is lost.
    arms, lift_frac
        Names, and each one's relative effect on true value.
    language_lift_frac
        Relative effect on true value of people of a language, on top.
    stage_loss_frac
        Share of the best page that a stage loses; those not named lose what they lose in a healthy feed.
    broken_per_page
        Posts per page that break a rule, by rule.
    bias
        Predictions over the truth; those of new authors start at twice as much.
    """

    n_users: int = 300
    n_days: int = 4
    page_limit: int = 20
    seed: int = 1
    feed_seed: int = 0
    arms: tuple[str, ...] = ("feed",)
    lift_frac: tuple[float, ...] = (0.0,)
    language_lift_frac: Mapping[str, float] = field(default_factory=dict)
    stage_loss_frac: Mapping[str, float] = field(default_factory=dict)
    broken_per_page: Mapping[str, float] = field(default_factory=dict)
    has_predictions: bool = True
    bias: float = 1.0
    new_frac: float = 0.15
    held_frac: float = 0.3
