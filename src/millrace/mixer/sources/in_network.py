"""Posts by the accounts that the viewer follows."""

from __future__ import annotations

import numpy as np

from millrace.base.int_table import Int32Array
from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.features.query_fields import CLAIMED, FOLLOWING
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.kinds import REPOST
from millrace.mixer.sources.facts import HAD, accounts, why_had, why_not
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.fair_share import take_turns
from millrace.stores.post_store import PostStore

MAX_POSTS = Param("in_network.max_posts", 700, 0, 5_000, "most posts by followed accounts")
MAX_POOL = Param("in_network.max_pool", 2_000, 0, 20_000, "newest posts among which followed accounts take turns")


class InNetworkSource(Source):
    """Takes the newest posts of the followed accounts, fair between authors (X's Thunder, with its reply rule).

    Among the newest of all, authors take turns: everybody's newest post is in before anybody's second newest. So one
    who posts all day leaves room for those who post once.
    """

    name = "in_network"
    reads = (FOLLOWING, *HAD)
    params = (MAX_AGE_H, MAX_POOL)
    cap = MAX_POSTS

    def __init__(self, posts: PostStore) -> None:
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts newest first."""
        rows = self._pool(query)
        chosen = take_turns(self._posts.author_ids(rows), query.params.get_int(MAX_POSTS))
        return CandidateBatch({POST_ID: self._posts.post_ids(rows[chosen])})

    def explain(self, query: Query, key: int) -> str:
        """Say whether its author is followed, and what newer posts came before it."""
        if unfit := why_not(query, self._posts, key, for_strangers=False):
            return unfit
        following = query[FOLLOWING]
        post = self._posts.gather(self._posts.find(np.array([key])))
        author_id = post.author_id[0]
        if author_id not in following:
            return f"its author is not among the {accounts(len(following))} that you follow"
        content_ids = np.where(post.kind == REPOST, post.parent_id, post.post_id)
        if is_member(content_ids, query[CLAIMED])[0]:  # these alone are left out here; others are found, and filtered
            return why_had(query, int(content_ids[0]))
        pool = self._pool(query)
        is_its = self._posts.author_ids(pool) == author_id
        ids = self._posts.post_ids(pool)
        if key in ids:
            before = int(is_its[: int(np.flatnonzero(ids == key)[0])].sum())
            cap = query.params.get_int(MAX_POSTS)
            return f"its author has {before} newer posts, and authors take turns for {cap} places"
        if len(pool) == query.params.get_int(MAX_POOL):
            return f"those you follow published {len(pool):,} newer posts"
        return "it answers or reposts something that those who follow its author are not shown"

    def _pool(self, query: Query) -> Int32Array:
        following, claimed = query[FOLLOWING], query[CLAIMED]
        rows: Int32Array = self._posts.newest(
            following,
            viewer_id=query.viewer_id,
            now_ms=query.now_ms,
            max_age_ms=max_age_ms(query),
            max_posts=max(query.params.get_int(MAX_POOL), query.params.get_int(MAX_POSTS)) + len(claimed),
            follows=following,
        )
        if not len(claimed):
            return rows
        found = self._posts.gather(rows)
        content_ids = np.where(found.kind == REPOST, found.parent_id, found.post_id)
        return rows[~is_member(content_ids, claimed)]
