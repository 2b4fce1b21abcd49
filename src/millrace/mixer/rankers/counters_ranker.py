"""The ranker that needs no model: P(action) for every head, from counters, and affinity to the author and the text."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.actions import CONTINUOUS, POSITIVE, Action, ActionSpace
from millrace.base.params import Param
from millrace.features.columns import (
    ACTION_PROBS,
    AUTHOR_AFFINITY,
    AUTHOR_COUNTS,
    IS_IN_NETWORK,
    N_PROOFS,
    OBSERVED_COUNTS,
    POST_COUNTS,
    TEXT_TASTE,
    TOPIC_COUNTS,
)
from millrace.mixer.rankers.rates import Float32Array, smoothed_rates
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
"""What happens to a post where nothing at all is known, per time shown. Business actions begin at 0."""

BASE_STRENGTH: Final = Param(
    "rates.base_strength_views",
    1_000.0,
    1.0,
    1e9,
    "views that the built-in rates weigh against the candidates' authors'",
)

TOPIC_STRENGTH: Final = Param("rates.topic_strength_views", 500.0, 1.0, 1e6, "views that the base rates weigh")
AUTHOR_STRENGTH: Final = Param("rates.author_strength_views", 150.0, 1.0, 1e6, "views that the topic's rates weigh")
POST_STRENGTH: Final = Param("rates.post_strength_views", 40.0, 1.0, 1e6, "views that the author's rates weigh")
MAX_OBSERVED: Final = Param(
    "rates.max_observed_views", 200.0, 0.0, 1e6, "views that totals from elsewhere weigh at most"
)
AFFINITY_GAIN: Final = Param(
    "rates.affinity_gain", 6.0, 0.0, 100.0, "how much more a viewer does on posts of a favourite author"
)
AFFINITY_HALF: Final = Param("rates.affinity_half", 3.0, 0.01, 1e4, "affinity at which half of that gain is reached")


FOLLOW_AFFINITY: Final = Param(
    "rates.follow_affinity", 1.5, 0.0, 1e4, "affinity that following an author is worth before anything was done"
)
PROOF_AFFINITY: Final = Param(
    "rates.proof_affinity", 0.5, 0.0, 1e4, "affinity that each followed account which engaged with a post is worth"
)


TASTE_AFFINITY: Final = Param(
    "rates.taste_affinity", 10.0, 0.0, 1e4, "affinity per unit of likeness to liked texts, beyond what chance gives"
)
LEAST_TASTE: Final = Param("rates.least_taste", 0.2, 0.0, 1.0, "likeness that chance gives")

STRANGER_FACTOR: Final = Param(
    "rates.stranger_factor",
    0.5,
    0.0,
    1.0,
    "how much of the rates holds for posts by strangers; those who were shown a post so far mostly knew its author",
)


class CountersRanker(Ranker):
    """Predicts every action by smoothed rates; positive ones rise with the viewer's affinity to the author.

    The rates of a post of which nothing is known are those of the candidates' authors taken together (empirical
    Bayes), so that a new author begins as an average one of this place, not of a place that we made up.

    Parameters
    ----------
    actions
        The known actions: one head each.
    """

    name = "counters"
    reads = (
        POST_COUNTS,
        AUTHOR_COUNTS,
        TOPIC_COUNTS,
        OBSERVED_COUNTS,
        AUTHOR_AFFINITY,
        IS_IN_NETWORK,
        N_PROOFS,
        TEXT_TASTE,
    )
    writes = (ACTION_PROBS,)
    params = (
        BASE_STRENGTH,
        TOPIC_STRENGTH,
        AUTHOR_STRENGTH,
        POST_STRENGTH,
        MAX_OBSERVED,
        AFFINITY_GAIN,
        AFFINITY_HALF,
        FOLLOW_AFFINITY,
        PROOF_AFFINITY,
        TASTE_AFFINITY,
        LEAST_TASTE,
        STRANGER_FACTOR,
    )

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
            self._base_rates(batch[AUTHOR_COUNTS], params.get_float(BASE_STRENGTH)),
            np.array(strengths, dtype=np.float32),
            params.get_float(MAX_OBSERVED),
            int(self._continuous),
        )
        affinity = (
            batch[AUTHOR_AFFINITY]
            + batch[IS_IN_NETWORK] * np.float32(params.get_float(FOLLOW_AFFINITY))
            + batch[N_PROOFS] * np.float32(params.get_float(PROOF_AFFINITY))
            + np.maximum(batch[TEXT_TASTE] - np.float32(params.get_float(LEAST_TASTE)), 0.0)
            * np.float32(params.get_float(TASTE_AFFINITY))
        )
        strangers = np.flatnonzero(~batch[IS_IN_NETWORK])
        if (factor := params.get_float(STRANGER_FACTOR)) != 1.0 and len(strangers):
            probs[np.ix_(strangers, self._positive)] *= np.float32(factor)
        liked = np.flatnonzero(affinity > 0)
        if len(liked):
            some = affinity[liked]
            gain = 1 + params.get_float(AFFINITY_GAIN) * some / (some + params.get_float(AFFINITY_HALF))
            cells = np.ix_(liked, self._positive)
            probs[cells] = np.minimum(probs[cells] * gain[:, None], 1.0)
        return {ACTION_PROBS: probs}

    def _base_rates(self, author_counts: Float32Array, strength: float) -> Float32Array:
        """Return what happens per view to posts of the candidates' authors, shrunk to the built-in rates.

        Actions that outnumber the views (imports bring some without) say nothing about rates: those authors are
        left out.
        """
        n_actions = len(self._base)
        views = author_counts[:, n_actions]
        discrete = np.delete(author_counts[:, :n_actions], self._continuous, axis=1)
        usable = author_counts[discrete.max(axis=1, initial=0.0) <= views].sum(axis=0, dtype=np.float64)
        rates: Float32Array = (usable[:n_actions] + strength * self._base) / (usable[n_actions] + strength)
        return rates.astype(np.float32)
