"""Posts by the accounts that the viewer follows."""

from __future__ import annotations

from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.features.query_fields import FOLLOWING
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.post_store import PostStore

MAX_POSTS = Param("in_network.max_posts", 700, 0, 5_000, "most posts by followed accounts, newest first")


class InNetworkSource(Source):
    """Takes the newest posts of the followed accounts (X's Thunder, with its reply rule)."""

    name = "in_network"
    reads = (FOLLOWING,)
    params = (MAX_AGE_H,)
    cap = MAX_POSTS

    def __init__(self, posts: PostStore) -> None:
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts newest first."""
        following = query[FOLLOWING]
        rows = self._posts.newest(
            following,
            viewer_id=query.viewer_id,
            now_ms=query.now_ms,
            max_age_ms=max_age_ms(query),
            max_posts=query.params.get_int(MAX_POSTS),
            follows=following,
        )
        return CandidateBatch({POST_ID: self._posts.gather(rows).post_id})
