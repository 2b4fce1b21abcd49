"""Posts that everybody engages with now."""

from __future__ import annotations

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import HEAT, POST_ID
from millrace.features.query_fields import LANGUAGES, SHOWS_ALL_LANGUAGES
from millrace.mixer.filters.viewer_settings import IS_CROSS_LINGUAL, judges_languages, understands
from millrace.mixer.had import HAD, had
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.counters import Counters
from millrace.stores.post_store import PostStore

MAX_POOL = Param("popular.max_pool", 2_048, 0, 65_536, "how far down the list of popular posts it looks")
MAX_POSTS = Param("popular.max_posts", 500, 0, 5_000, "most popular posts, hottest first")


class PopularSource(Source):
    """Takes the posts with the most decayed engagement that the viewer has not had and can read.

    The list is the same for everybody; without a look at the language, viewers of a small one would find next to
    nothing on it once the language filter is through.
    """

    name = "popular"
    reads = (*HAD, LANGUAGES, SHOWS_ALL_LANGUAGES)
    writes = (HEAT,)
    params = (MAX_POOL, IS_CROSS_LINGUAL)
    cap = MAX_POSTS

    def __init__(self, counters: Counters, posts: PostStore) -> None:
        self._counters = counters
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts hottest first; leaving out what the viewer had keeps the pool from running dry."""
        known = had(query)
        max_posts, n_looked = query.params.get_int(MAX_POSTS), query.params.get_int(MAX_POOL)
        has_languages = judges_languages(query)
        if not has_languages:
            n_looked = min(max_posts + len(known), n_looked)
        post_ids, heat = self._counters.popular(query.now_ms, n_looked)
        is_new = ~is_member(post_ids, known)
        if has_languages:
            is_new &= understands(query, self._posts.gather(self._posts.find(post_ids)).language)
        rows = np.flatnonzero(is_new)[:max_posts]
        return CandidateBatch({POST_ID: post_ids[rows], HEAT: heat[rows]})
