"""Posts by the accounts that the viewer follows."""

from __future__ import annotations

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.features.query_fields import CLAIMED, FOLLOWING
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.kinds import REPOST
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.post_store import PostStore

MAX_POSTS = Param("in_network.max_posts", 700, 0, 5_000, "most posts by followed accounts, newest first")


class InNetworkSource(Source):
    """Takes the newest posts of the followed accounts (X's Thunder, with its reply rule), past what is claimed."""

    name = "in_network"
    reads = (FOLLOWING, CLAIMED)
    params = (MAX_AGE_H,)
    cap = MAX_POSTS

    def __init__(self, posts: PostStore) -> None:
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts newest first."""
        following, claimed = query[FOLLOWING], query[CLAIMED]
        max_posts = query.params.get_int(MAX_POSTS)
        rows = self._posts.newest(
            following,
            viewer_id=query.viewer_id,
            now_ms=query.now_ms,
            max_age_ms=max_age_ms(query),
            max_posts=max_posts + len(claimed),
            follows=following,
        )
        found = self._posts.gather(rows)
        content_ids = np.where(found.kind == REPOST, found.parent_id, found.post_id)
        return CandidateBatch({POST_ID: found.post_id[~is_member(content_ids, claimed)][:max_posts]})
