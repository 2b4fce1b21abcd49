"""The features that count: the same declarations for posts, for authors and for what a user did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from millrace.base.actions import Action, ActionSpace
from millrace.features.store.feature import Feature
from millrace.stores.engagement_config import HOUR_MS

FLOAT: Final = np.dtype(np.float32)

RATED: Final = (
    Action.LIKE,
    Action.REPLY,
    Action.REPOST,
    Action.SHARE,
    Action.BOOKMARK,
    Action.CLICK,
    Action.DWELL,
    Action.COMPLETE,
    Action.FOLLOW_AUTHOR,
    Action.NOT_DWELLED,
)
"""Actions whose rates are features."""

PRIOR_IMPRESSIONS: Final = 20.0
"""A rate is actions over impressions plus this: what hardly anybody has seen has none to speak of."""


def span(ms: int) -> str:
    """Return a length of time in short: ``90m``, ``6h``, ``7d``."""
    if ms % (24 * HOUR_MS) == 0:
        return f"{ms // (24 * HOUR_MS)}d"
    return f"{ms // HOUR_MS}h" if ms % HOUR_MS == 0 else f"{ms // 60_000}m"


def windowed(of: str, what: str, windows_ms: Sequence[int], actions: ActionSpace) -> tuple[Feature, ...]:
    """Return the declarations of the sliding windows of one kind of key, shortest window first."""
    labels = (*actions.names, "impression")
    return tuple(
        Feature(
            f"{of}_counts_{span(ms)}",
            FLOAT,
            (len(labels),),
            "engagements.windows",
            "minute",
            f"{what} in the last {span(ms)}: viewers per action, seconds of dwell_time, impressions last",
            labels,
        )
        for ms in windows_ms
    )


def decayed(of: str, what: str, half_lives_ms: Sequence[int], actions: ActionSpace) -> tuple[Feature, ...]:
    """Return the declarations of decayed counters, in the order of their half-lives."""
    labels = (*actions.names, "impression")
    return tuple(
        Feature(
            f"{of}_counts_decayed_{span(ms)}" if ms else f"{of}_counts_total",
            FLOAT,
            (len(labels),),
            "engagements.counters",
            "request" if ms else "event",
            f"{what}, halved every {span(ms)}" if ms else f"{what}, for as long as it is remembered",
            labels,
        )
        for ms in half_lives_ms
    )


def rates(of: str, basis: str) -> Feature:
    """Return the declaration of smoothed rates over a counting feature."""
    return Feature(
        f"{of}_rates_{basis}",
        FLOAT,
        (len(RATED),),
        "engagements",
        "minute",
        f"actions over impressions + {PRIOR_IMPRESSIONS:.0f}, of {of}_counts_{basis}",
        tuple(action.label for action in RATED),
    )
