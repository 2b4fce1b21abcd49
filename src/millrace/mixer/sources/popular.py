"""Posts that everybody engages with now."""

from __future__ import annotations

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import HEAT, POST_ID
from millrace.features.query_fields import SEEN, SERVED
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.counters import Counters

MAX_POOL = Param("popular.max_pool", 2_048, 0, 65_536, "how far down the list of popular posts it looks")
MAX_POSTS = Param("popular.max_posts", 500, 0, 5_000, "most popular posts, hottest first")


class PopularSource(Source):
    """Takes the posts with the most decayed engagement that the viewer has not had."""

    name = "popular"
    reads = (SEEN, SERVED)
    writes = (HEAT,)
    params = (MAX_POOL,)
    cap = MAX_POSTS

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts hottest first; leaving out what the viewer had keeps the pool from running dry."""
        seen, served = query[SEEN], query[SERVED]
        max_posts = query.params.get_int(MAX_POSTS)
        n_looked = min(max_posts + len(seen) + len(served), query.params.get_int(MAX_POOL))
        post_ids, heat = self._counters.popular(query.now_ms, n_looked)
        was_had = is_member(post_ids, seen) | is_member(post_ids, served)
        rows = np.flatnonzero(~was_had)[:max_posts]
        return CandidateBatch({POST_ID: post_ids[rows], HEAT: heat[rows]})
