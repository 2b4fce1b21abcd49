"""Posts that those engaged with who engaged with what the viewer liked."""

from __future__ import annotations

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import POST_ID, RETRIEVAL_SCORE
from millrace.features.query_fields import LIKED_POSTS
from millrace.mixer.filters.age import MAX_AGE_H
from millrace.mixer.sources.facts import HAD, best, engaged_with, is_unmet, why_not
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.engagement_index import EngagementIndex
from millrace.stores.fair_share import take_turns
from millrace.stores.post_store import PostStore
from millrace.stores.tastes import CoEngaged, Tastes

MAX_POSTS = Param("co_engagement.max_posts", 200, 0, 5_000, "most posts that go with liked ones")
MAX_SEEDS = Param("co_engagement.max_seeds", 16, 0, 1_024, "most liked posts that others are looked for by")
MAX_SAMPLE = Param("co_engagement.max_sample", 64, 1, 1_024, "most engagers looked at per liked post")
MAX_EDGES = Param("co_engagement.max_edges", 100, 1, 65_536, "users with so many engagements kept are left out")
MAX_PER_USER = Param("co_engagement.max_per_user", 32, 1, 1_024, "most engagements read per engager")
MIN_COMMON = Param("co_engagement.min_common", 2, 1, 100, "users that two posts must have in common")


class CoEngagementSource(Source):
    """Takes the posts that share the most engagers with those that the viewer liked (Twitter's user-tweet graph).

    Scores are log-cosines, summed over the liked posts; where there are too many, the liked posts take turns, each
    with what it led to, so that none of them crowds out the others.
    """

    name = "co_engagement"
    reads = (LIKED_POSTS, *HAD)
    writes = (RETRIEVAL_SCORE,)
    params = (MAX_AGE_H, MAX_SEEDS, MAX_SAMPLE, MAX_EDGES, MAX_PER_USER, MIN_COMMON)
    cap = MAX_POSTS

    def __init__(self, tastes: Tastes, index: EngagementIndex, posts: PostStore) -> None:
        self._tastes = tastes
        self._index = index
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, those that go best with liked ones first."""
        found = self._found(query)
        rows = best(found.scores, found.post_ids, len(found.post_ids), self._is_unmet(query, found))
        turns = take_turns(found.best_seed[rows].astype(np.int64), query.params.get_int(MAX_POSTS))
        rows = rows[turns]
        return CandidateBatch({POST_ID: found.post_ids[rows], RETRIEVAL_SCORE: found.scores[rows].astype(np.float32)})

    def explain(self, query: Query, key: int) -> str:
        """Say how many users it shares with a post that the viewer liked."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        if key in engaged_with(query, self._index):
            return "you engaged with it yourself"
        n_seeds = min(len(query[LIKED_POSTS]), query.params.get_int(MAX_SEEDS))
        if not n_seeds:
            return "you have not liked anything yet that other posts could go with"
        found = self._found(query)
        place = np.flatnonzero(found.post_ids == key)
        if not len(place):
            min_common = query.params.get_int(MIN_COMMON)
            return f"it shares fewer than {min_common} users with each of the {n_seeds} posts that you liked last"
        n_better = int((self._is_unmet(query, found) & (found.scores > found.scores[place[0]])).sum())
        return (
            f"it shares {found.n_common[place[0]]} users with a post that you liked; {n_better} posts share more, and "
            f"the cap is {query.params.get_int(MAX_POSTS)}"
        )

    def _found(self, query: Query) -> CoEngaged:
        params = query.params
        return self._tastes.co_engaged(
            query[LIKED_POSTS][: params.get_int(MAX_SEEDS)],
            max_sample=params.get_int(MAX_SAMPLE),
            max_edges=params.get_int(MAX_EDGES),
            max_per_user=params.get_int(MAX_PER_USER),
            min_common=params.get_int(MIN_COMMON),
            exclude_user=query.viewer_id,
        )

    def _is_unmet(self, query: Query, found: CoEngaged) -> BoolArray:
        return is_unmet(query, found.post_ids, self._index, self._posts)
