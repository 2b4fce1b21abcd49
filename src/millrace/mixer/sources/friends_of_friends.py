"""Posts by accounts that the accounts the viewer follows follow."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.features.columns import POST_ID, RETRIEVAL_SCORE
from millrace.features.query_fields import BLOCKED, BLOCKED_BY, FOLLOWING, MUTED
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.sources.facts import HAD, accounts, best, is_new, why_not
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.decayed_rows import Float64Array
from millrace.stores.fair_share import rank_in_group
from millrace.stores.follow_graph import FollowGraph
from millrace.stores.follow_walks import Friends, friends_of_friends
from millrace.stores.histories import Histories
from millrace.stores.post_store import PostStore

MAX_POSTS = Param("friends_of_friends.max_posts", 200, 0, 5_000, "most posts by accounts that followed accounts follow")
MAX_SEEDS = Param("friends_of_friends.max_seeds", 100, 0, 2_000, "most followed accounts whose follows are looked at")
MAX_PER_SEED = Param("friends_of_friends.max_per_seed", 100, 1, 5_000, "most follows read per followed account")
MAX_AUTHORS = Param("friends_of_friends.max_authors", 100, 0, 2_000, "most accounts whose posts are taken")
MAX_PER_AUTHOR = Param("friends_of_friends.max_per_author", 3, 1, 100, "most posts taken of one account")

_COMMON: Final = 2
"""How many must follow an account, unless hardly anybody is followed by so many."""

_FEW: Final = 10
"""With fewer accounts than this, those that one follows are taken too."""

_LOOKED_AT: Final = 4
"""Times ``max_per_author``: posts looked at per account, because the viewer may have had the newest."""


class FriendsOfFriendsSource(Source):
    """Takes the newest posts by accounts that several of those whom the viewer follows follow."""

    name = "friends_of_friends"
    reads = (FOLLOWING, BLOCKED, BLOCKED_BY, MUTED, *HAD)
    writes = (RETRIEVAL_SCORE,)
    params = (MAX_AGE_H, MAX_SEEDS, MAX_PER_SEED, MAX_AUTHORS, MAX_PER_AUTHOR)
    cap = MAX_POSTS

    def __init__(self, graph: FollowGraph, histories: Histories, posts: PostStore) -> None:
        self._graph = graph
        self._histories = histories
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, those first whose author most of the viewer's follows follow."""
        friends = self._friends(query, query.params.get_int(MAX_AUTHORS))
        found = self._posts_of(query, friends)
        rows = best(found.n_seeds, found.post_ids, query.params.get_int(MAX_POSTS), found.is_in)
        return CandidateBatch({POST_ID: found.post_ids[rows], RETRIEVAL_SCORE: found.n_seeds[rows].astype(np.float32)})

    def explain(self, query: Query, key: int) -> str:
        """Say how many of the viewer's follows follow its author, and what came before it."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        author_id = int(self._posts.author_ids(self._posts.find(np.array([key])))[0])
        if author_id in self._left_out(query):
            return "its author is you, or somebody whom you follow, block or mute, or who blocks you"
        seeds = accounts(len(self._seeds(query)))
        friends = self._friends(query, 1 << 20)
        place = np.flatnonzero(friends.user_ids == author_id)
        if not len(place):
            return f"too few of {seeds} that you follow follow its author ({_COMMON} should)"
        n, max_authors = int(friends.n_seeds[place[0]]), query.params.get_int(MAX_AUTHORS)
        if place[0] >= max_authors:
            return f"{n} of {seeds} that you follow follow its author: place {place[0] + 1:,} of {max_authors} accounts"
        max_per_author = query.params.get_int(MAX_PER_AUTHOR)
        return (
            f"{n} of {seeds} that you follow follow its author: it is not among the author's {max_per_author} newest "
            f"that you have not had, or below the cap of {query.params.get_int(MAX_POSTS)}"
        )

    def _seeds(self, query: Query) -> Int64Array:
        """Return those whose follows count: whom the viewer engages with most, then whom the viewer followed last."""
        following, max_seeds = query[FOLLOWING], query.params.get_int(MAX_SEEDS)
        if len(following) <= max_seeds:
            return following
        affinity = self._histories.author_affinity(query.viewer_id, following, query.now_ms)
        return following[np.lexsort((-np.arange(len(following)), -affinity))[:max_seeds]]

    def _left_out(self, query: Query) -> Int64Array:
        me = np.array([query.viewer_id], dtype=np.int64)
        return np.concatenate([me, query[FOLLOWING], query[BLOCKED], query[BLOCKED_BY], query[MUTED]])

    def _friends(self, query: Query, max_users: int) -> Friends:
        friends = friends_of_friends(
            self._graph,
            self._seeds(query),
            max_per_seed=query.params.get_int(MAX_PER_SEED),
            left_out=self._left_out(query),
            min_seeds=1,
            max_users=max_users,
        )
        n = max(int((friends.n_seeds >= _COMMON).sum()), _FEW)
        return Friends(friends.user_ids[:n], friends.n_seeds[:n])

    def _posts_of(self, query: Query, friends: Friends) -> _Found:
        max_per_author = query.params.get_int(MAX_PER_AUTHOR)
        rows = self._posts.newest_of_each(
            friends.user_ids, query.now_ms, max_age_ms(query), _LOOKED_AT * max_per_author
        )
        post_ids = self._posts.post_ids(rows)
        new = np.flatnonzero(is_new(query, post_ids))
        rows, post_ids = rows[new], post_ids[new]
        author_ids = self._posts.author_ids(rows)
        by_id = np.argsort(friends.user_ids)
        places = by_id[np.searchsorted(friends.user_ids, author_ids, sorter=by_id)]
        return _Found(post_ids, friends.n_seeds[places].astype(np.float64), rank_in_group(author_ids) < max_per_author)


class _Found(NamedTuple):
    post_ids: Int64Array
    n_seeds: Float64Array
    is_in: BoolArray
