"""Posts that everybody engages with now."""

from __future__ import annotations

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import HEAT, POST_ID, RETRIEVAL_SCORE
from millrace.features.query_fields import LANGUAGES, SHOWS_ALL_LANGUAGES
from millrace.mixer.filters.viewer_settings import IS_CROSS_LINGUAL, judges_languages, understands
from millrace.mixer.sources.facts import HAD, is_new, n_had, why_not
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.counters import Counters
from millrace.stores.post_store import PostStore

MAX_POOL = Param("popular.max_pool", 1_024, 0, 65_536, "how far down the list of popular posts it looks")
MAX_POSTS = Param("popular.max_posts", 300, 0, 5_000, "most popular posts, hottest first")


class PopularSource(Source):
    """Takes the posts with the most decayed engagement that the viewer has not had and can read.

    The list is the same for everybody; without a look at the language, viewers of a small one would find next to
    nothing on it once the language filter is through.
    """

    name = "popular"
    reads = (LANGUAGES, SHOWS_ALL_LANGUAGES, *HAD)
    writes = (HEAT, RETRIEVAL_SCORE)
    params = (MAX_POOL, IS_CROSS_LINGUAL)
    cap = MAX_POSTS

    def __init__(self, counters: Counters, posts: PostStore) -> None:
        self._counters = counters
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts hottest first; leaving out what the viewer had keeps the pool from running dry."""
        max_posts, n_looked = query.params.get_int(MAX_POSTS), query.params.get_int(MAX_POOL)
        has_languages = judges_languages(query)
        if not has_languages:
            n_looked = min(max_posts + n_had(query), n_looked)
        post_ids, heat = self._counters.popular(query.now_ms, n_looked)
        is_in = is_new(query, post_ids)
        if has_languages:
            is_in &= understands(query, self._posts.gather(self._posts.find(post_ids)).language)
        rows = np.flatnonzero(is_in)[:max_posts]
        return CandidateBatch({POST_ID: post_ids[rows], HEAT: heat[rows], RETRIEVAL_SCORE: heat[rows]})

    def explain(self, query: Query, key: int) -> str:
        """Say how hot it is."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        post_ids, heat = self._counters.popular(query.now_ms, query.params.get_int(MAX_POOL))
        place = np.flatnonzero(post_ids == key)
        if not len(place):
            return f"it is not among the {len(post_ids):,} hottest posts"
        language = self._posts.gather(self._posts.find(np.array([key]))).language
        if judges_languages(query) and not understands(query, language)[0]:
            return "it is in a language that you do not read"
        max_posts = query.params.get_int(MAX_POSTS)
        return f"place {place[0] + 1:,} of all by heat ({heat[place[0]]:.1f}), beyond the cap of {max_posts}"
