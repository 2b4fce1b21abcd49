"""The newest posts of everybody: what there is when there is little else."""

from __future__ import annotations

from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.sources.facts import HAD, is_new, n_had, why_not
from millrace.pipeline.batch import CandidateBatch
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
        max_posts = query.params.get_int(MAX_POSTS)
        n_looked = max_posts + n_had(query)
        post_ids = self._posts.post_ids(self._posts.newest_overall(n_looked, query.now_ms, max_age_ms(query)))
        return CandidateBatch({POST_ID: post_ids[is_new(query, post_ids)][:max_posts]})

    def explain(self, query: Query, key: int) -> str:
        """Say that it was not asked, or how many newer posts there are."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        max_posts, only_below = query.params.get_int(MAX_POSTS), query.params.get_int(ONLY_BELOW)
        if key in self.retrieve(query)[POST_ID]:
            return f"it is a last resort, and the other sources found {only_below:,} posts or more"
        return f"there are {max_posts} newer posts"
