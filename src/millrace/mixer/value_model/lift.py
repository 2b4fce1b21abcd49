"""The new-author lift: one post a request, by an author whom few follow, comes up to where it is seen.

X's author cold start (release of August 2026). It is a gift of one place, not a rule about small authors: of all posts
that are eligible only the best is lifted, and only as far as a rank in the middle of the first page.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.order import top_k
from millrace.base.params import Param
from millrace.features.columns import (
    AUTHOR_FOLLOWERS,
    CREATED_MS,
    KIND,
    LIFT_FACTOR,
    OBSERVED_COUNTS,
    POST_COUNTS,
    POST_ID,
    SCORE,
)
from millrace.mixer.kinds import ORIGINAL
from millrace.mixer.value_model.steps import Multiplier
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query

_HOUR_MS: Final = 3_600_000

IS_ON: Final = Param("lift.is_on", default=True, doc="lift one post by a new author in every request")
MAX_FOLLOWERS: Final = Param("lift.max_followers", 1_000, 0, 1_000_000_000, "most followers of an author who is lifted")
MAX_VIEWS: Final = Param("lift.max_views", 1_000, 0, 1_000_000_000, "a post that is lifted has fewer views")
MAX_AGE_H: Final = Param("lift.max_age_h", 24.0, 0.0, 24.0 * 365, "how old a post that is lifted may be, hours")
POSITION_FRAC: Final = Param(
    "lift.position_frac",
    0.85,
    0.0,
    1.0,
    "a post that is lifted stands in this part of all scores above 0, from the top",
)
RANK: Final = Param("lift.rank", 15, 0, 10_000, "the first rank, counted from 0, that a post is lifted to")
N_RANKS: Final = Param("lift.n_ranks", 1, 1, 10_000, "how many ranks, from that one on, one is drawn from")


class NewAuthorLift(Multiplier):
    """Lifts the best original by an author with few followers at least to the 16th place, one a request."""

    name = "new_author_lift"
    reads = (POST_ID, KIND, CREATED_MS, AUTHOR_FOLLOWERS, POST_COUNTS, OBSERVED_COUNTS, SCORE)
    writes = (LIFT_FACTOR, SCORE)
    params = (IS_ON, MAX_FOLLOWERS, MAX_VIEWS, MAX_AGE_H, POSITION_FRAC, RANK, N_RANKS)
    amount_column = LIFT_FACTOR

    def is_enabled(self, query: Query) -> bool:
        """Only where it is switched on."""
        return query.params.get_bool(IS_ON)

    def amount(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return new by old score for the one post that is lifted, 1 for all others."""
        factor = np.ones(batch.n, dtype=np.float32)
        scores, ids = batch[SCORE], batch[POST_ID]
        rank = self._rank(query)
        if batch.n <= rank:
            return factor
        rows = np.flatnonzero(self._is_eligible(query, batch))
        best = rows[top_k(scores[rows], ids[rows], 1)]
        target = scores[top_k(scores, ids, rank + 1)[rank]]
        if not len(best) or not scores[best[0]] < target:
            return factor
        row, old = best[0], scores[best[0]]
        position = np.count_nonzero((scores > old) | ((scores == old) & (ids < ids[row])))
        if position < query.params.get_float(POSITION_FRAC) * np.count_nonzero(scores > 0):
            factor[row] = _factor(old, target)
        return factor

    def _rank(self, query: Query) -> int:
        first, n_ranks = query.params.get_int(RANK), query.params.get_int(N_RANKS)
        return first if n_ranks == 1 else first + int(query.rng(self.name).integers(n_ranks))

    @staticmethod
    def _is_eligible(query: Query, batch: CandidateBatch) -> BoolArray:
        params = query.params
        views = batch[POST_COUNTS][:, -1] + batch[OBSERVED_COUNTS][:, -1]
        oldest_ms = query.now_ms - int(params.get_float(MAX_AGE_H) * _HOUR_MS)
        is_eligible: BoolArray = (
            (batch[KIND] == ORIGINAL)
            & (batch[AUTHOR_FOLLOWERS] <= params.get_int(MAX_FOLLOWERS))
            & (views < params.get_int(MAX_VIEWS))
            & (batch[CREATED_MS] >= oldest_ms)
            & (batch[SCORE] > 0)
        )
        return is_eligible


def _factor(old: np.float32, target: np.float32) -> np.float32:
    """Return what brings a score at least to another: the product must not end just below it by rounding."""
    with np.errstate(over="ignore"):
        factor = target / old
        while old * factor < target:
            factor = np.nextafter(factor, np.float32(np.inf))
    return factor if np.isfinite(factor) else np.float32(1.0)
