"""The order in which the page is filled: by score, but what is too much like what is on it already goes last."""

from __future__ import annotations

import numpy as np

from millrace.base.order import top_k
from millrace.features.columns import CONTENT_ID, DIVERSITY, PAGE_SCORE, POST_ID, SCORE
from millrace.mixer.rerankers import dpp, mmr
from millrace.mixer.rerankers.vectors import PostVectors, usable_vectors
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import IntArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, ReRanker

CHOSEN, OUTSIDE, PASSED_OVER = 1, 0, -1


class DiversityReRanker(ReRanker):
    """Puts the posts of the pool that are good and unlike each other before all others (DPP; MMR on demand).

    The pool is the best by score. What it chooses comes first: by score (DPP) or in the order of choice (MMR). All
    others follow by score, so nothing is lost and no page gets short. ``page_score`` is the place, counted from the
    last: of n candidates the first has n, the last 1; all are different. Where both ways are switched off, the order is
    the score's. A repost is about what the reposted post is about.
    """

    name = "diversity"
    reads = (POST_ID, CONTENT_ID, SCORE)
    writes = (DIVERSITY, PAGE_SCORE)
    params = (dpp.IS_ON, dpp.MAX_POOL, dpp.MAX_CHOSEN, dpp.THETA, mmr.IS_ON, mmr.LAMBDA)

    def __init__(self, vectors: PostVectors) -> None:
        self._vectors = vectors

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return what was chosen, and every candidate's place."""
        order = top_k(batch[SCORE], batch[POST_ID], batch.n)
        diversity = np.zeros(batch.n, dtype=np.int8)
        if query.params.get_bool(dpp.IS_ON) or query.params.get_bool(mmr.IS_ON):
            pool = order[: query.params.get_int(dpp.MAX_POOL)]
            chosen = pool[self._choose(query, batch, pool)]
            diversity[pool] = PASSED_OVER
            diversity[chosen] = CHOSEN
            order = np.concatenate((chosen, order[diversity[order] != CHOSEN]))
        places = np.empty(batch.n, dtype=np.float32)
        places[order] = np.arange(batch.n, 0, -1)
        return {DIVERSITY: diversity, PAGE_SCORE: places}

    def explain(self, batch: CandidateBatch, row: int) -> str:
        """Say whether the row was chosen, and its place."""
        place = batch.n + 1 - int(batch[PAGE_SCORE][row])
        if place > batch.n:  # it had no turn
            return ""
        decided = {
            CHOSEN: "chosen: good enough for how like the others it is",
            PASSED_OVER: "passed over: too much like better ones",
            OUTSIDE: "not compared with others",
        }[int(batch[DIVERSITY][row])]
        return f"{decided}; place {place} of {batch.n}"

    def _choose(self, query: Query, batch: CandidateBatch, pool: IntArray) -> IntArray:
        """Return rows of the pool."""
        params = query.params
        scores = batch[SCORE][pool]
        vectors, has = usable_vectors(self._vectors, batch[CONTENT_ID][pool])
        max_chosen = params.get_int(dpp.MAX_CHOSEN)
        if params.get_bool(mmr.IS_ON):
            neutral = dpp.neutral_cosine(vectors, has)
            trade = params.get_float(mmr.LAMBDA)
            return mmr.marginal_relevance(dpp.qualities(scores), vectors, has, neutral, trade, max_chosen)
        if not has.any():  # all equally unlike: the best are chosen
            return np.arange(min(len(pool), max_chosen))
        return np.sort(dpp.choose_by_dpp(scores, vectors, has, params.get_float(dpp.THETA), max_chosen))
