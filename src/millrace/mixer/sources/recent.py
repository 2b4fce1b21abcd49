"""The newest posts of everybody: what there is when there is little else."""

from __future__ import annotations

from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.had import HAD, had
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.post_store import PostStore

ONLY_BELOW = Param(
    "recent.only_below", 1_000, 0, 100_000, "takes part where the other sources found fewer posts than this"
)
MAX_POSTS = Param("recent.max_posts", 300, 0, 5_000, "most posts by anybody, newest first")


class RecentSource(Source):
    """Takes the newest posts of all authors that the viewer has not had, where the other sources found little."""

    name = "recent"
    reads = HAD
    params = (MAX_AGE_H,)
    cap = MAX_POSTS
    only_below = ONLY_BELOW

    def __init__(self, posts: PostStore) -> None:
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts newest first."""
        known = had(query)
        max_posts = query.params.get_int(MAX_POSTS)
        n_looked = max_posts + len(known)
        post_ids = self._posts.post_ids(self._posts.newest_overall(n_looked, query.now_ms, max_age_ms(query)))
        is_new = ~is_member(post_ids, known)
        return CandidateBatch({POST_ID: post_ids[is_new][:max_posts]})
