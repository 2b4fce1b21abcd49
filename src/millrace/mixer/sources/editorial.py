"""Posts that the operator picked."""

from __future__ import annotations

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.sources.facts import HAD, is_new, why_not
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.editorial import EditorialStore
from millrace.stores.post_store import PostStore

MAX_POSTS = Param("editorial.max_posts", 50, 0, 1_024, "most posts that the operator picked, newest pick first")


class EditorialSource(Source):
    """Takes the posts of the editorial pool that the viewer has not had (``millrace editorial``)."""

    name = "editorial"
    reads = HAD
    params = (MAX_AGE_H,)
    cap = MAX_POSTS

    def __init__(self, editorial: EditorialStore, posts: PostStore) -> None:
        self._editorial = editorial
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, the newest pick first; picks whose time is over by the request's clock left out."""
        post_ids = self._editorial.picks(query.now_ms).post_ids
        is_in = is_new(query, post_ids) & self._posts.is_fresh_original(post_ids, query.now_ms, max_age_ms(query))
        return CandidateBatch({POST_ID: post_ids[is_in][: query.params.get_int(MAX_POSTS)]})

    def explain(self, query: Query, key: int) -> str:
        """Say whether it is in the pool."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        picks = self._editorial.picks(query.now_ms)
        place = np.flatnonzero(picks.post_ids == key)
        if not len(place):
            return f"it is not among the {len(picks.post_ids)} posts of the editorial pool"
        return f"{place[0]} posts were picked later, and the cap is {query.params.get_int(MAX_POSTS)}"
