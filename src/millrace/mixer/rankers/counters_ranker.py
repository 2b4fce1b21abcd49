"""The ranker that needs no model: P(action) for every head, from counters and the viewer's affinity to the author."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.actions import CONTINUOUS, POSITIVE, Action, ActionSpace
from millrace.base.params import Param
from millrace.features.columns import (
    ACTION_PROBS,
    AUTHOR_AFFINITY,
    AUTHOR_COUNTS,
    OBSERVED_COUNTS,
    POST_COUNTS,
    TOPIC_COUNTS,
)
from millrace.mixer.rankers.rates import smoothed_rates
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, Ranker

BASE_RATES: Final = {
    Action.LIKE: 0.03,
    Action.REPLY: 0.003,
    Action.REPOST: 0.004,
    Action.QUOTE: 0.0005,
    Action.SHARE: 0.001,
    Action.SHARE_DM: 0.0005,
    Action.COPY_LINK: 0.0002,
    Action.BOOKMARK: 0.002,
    Action.CLICK: 0.05,
    Action.PROFILE_CLICK: 0.01,
    Action.LINK_OPEN: 0.01,
    Action.PHOTO_EXPAND: 0.02,
    Action.VIDEO_VIEW: 0.03,
    Action.QUOTE_CLICK: 0.002,
    Action.DWELL: 0.25,
    Action.DWELL_TIME: 4.0,
    Action.COMPLETE: 0.01,
    Action.FOLLOW_AUTHOR: 0.001,
    Action.NOT_INTERESTED: 0.0005,
    Action.MUTE_AUTHOR: 0.0001,
    Action.BLOCK_AUTHOR: 0.00005,
    Action.REPORT: 0.00002,
    Action.NOT_DWELLED: 0.4,
}
"""What happens to a post of which nothing is known, per time shown. Business actions begin at 0."""

TOPIC_STRENGTH: Final = Param("rates.topic_strength_views", 500.0, 1.0, 1e6, "views that the base rates weigh")
AUTHOR_STRENGTH: Final = Param("rates.author_strength_views", 150.0, 1.0, 1e6, "views that the topic's rates weigh")
POST_STRENGTH: Final = Param("rates.post_strength_views", 40.0, 1.0, 1e6, "views that the author's rates weigh")
MAX_OBSERVED: Final = Param(
    "rates.max_observed_views", 200.0, 0.0, 1e6, "views that totals from elsewhere weigh at most"
)
AFFINITY_GAIN: Final = Param(
    "rates.affinity_gain", 2.0, 0.0, 100.0, "how much more a viewer does on posts of a favourite author"
)
AFFINITY_HALF: Final = Param("rates.affinity_half", 3.0, 0.01, 1e4, "affinity at which half of that gain is reached")


class CountersRanker(Ranker):
    """Predicts every action by smoothed rates; positive ones rise with the viewer's affinity to the author.

    Parameters
    ----------
    actions
        The known actions: one head each.
    """

    name = "counters"
    reads = (POST_COUNTS, AUTHOR_COUNTS, TOPIC_COUNTS, OBSERVED_COUNTS, AUTHOR_AFFINITY)
    writes = (ACTION_PROBS,)
    params = (TOPIC_STRENGTH, AUTHOR_STRENGTH, POST_STRENGTH, MAX_OBSERVED, AFFINITY_GAIN, AFFINITY_HALF)

    def __init__(self, actions: ActionSpace) -> None:
        self._base = np.zeros(len(actions), dtype=np.float32)
        for action, rate in BASE_RATES.items():
            self._base[action] = rate
        (self._continuous,) = CONTINUOUS
        self._positive = np.array(sorted(POSITIVE))

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the predictions."""
        params = query.params
        observed_strength = params.get_float(POST_STRENGTH)
        strengths = [
            params.get_float(TOPIC_STRENGTH),
            params.get_float(AUTHOR_STRENGTH),
            observed_strength,
            params.get_float(POST_STRENGTH),
        ]
        probs = smoothed_rates(
            batch[TOPIC_COUNTS],
            batch[AUTHOR_COUNTS],
            batch[OBSERVED_COUNTS],
            batch[POST_COUNTS],
            self._base,
            np.array(strengths, dtype=np.float32),
            params.get_float(MAX_OBSERVED),
            int(self._continuous),
        )
        affinity = batch[AUTHOR_AFFINITY]
        liked = np.flatnonzero(affinity > 0)
        if len(liked):
            some = affinity[liked]
            gain = 1 + params.get_float(AFFINITY_GAIN) * some / (some + params.get_float(AFFINITY_HALF))
            cells = np.ix_(liked, self._positive)
            probs[cells] = np.minimum(probs[cells] * gain[:, None], 1.0)
        return {ACTION_PROBS: probs}
