"""Posts that viewers with the viewer's taste engaged with."""

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
from millrace.stores.post_store import PostStore
from millrace.stores.tastes import EngagedBy, LikeMinded, Tastes

MAX_POSTS = Param("similar_viewers.max_posts", 200, 0, 5_000, "most posts that viewers with a like taste engaged with")
MAX_LIKED = Param("similar_viewers.max_liked", 32, 0, 1_024, "most liked posts by which such viewers are found")
MAX_PER_POST = Param("similar_viewers.max_per_post", 64, 1, 1_024, "most engagements read per liked post")
MAX_VIEWERS = Param("similar_viewers.max_viewers", 50, 0, 1_000, "most viewers with a like taste")
MAX_PER_VIEWER = Param("similar_viewers.max_per_viewer", 20, 1, 1_024, "most engagements read per such viewer")
HYPERACTIVE = Param("similar_viewers.hyperactive", 100, 1, 65_536, "with so many engagements kept, taste says less")
DAMPING = Param("similar_viewers.damping", 0.5, 0.0, 1.0, "what the similarity of the hyperactive is multiplied by")


class SimilarViewersSource(Source):
    """Takes the posts that viewers who like what the viewer likes engaged with lately.

    A viewer's similarity is the number of posts in common over the root of how much they engage with (the cosine, but
    for what is equal for all); a post's score is the sum over those who engaged with it.
    """

    name = "similar_viewers"
    reads = (LIKED_POSTS, *HAD)
    writes = (RETRIEVAL_SCORE,)
    params = (MAX_AGE_H, MAX_LIKED, MAX_PER_POST, MAX_VIEWERS, MAX_PER_VIEWER, HYPERACTIVE, DAMPING)
    cap = MAX_POSTS

    def __init__(self, tastes: Tastes, index: EngagementIndex, posts: PostStore) -> None:
        self._tastes = tastes
        self._index = index
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, those first that the most similar viewers engaged with."""
        found = self._engaged_by(query, self._viewers(query))
        rows = best(found.weights, found.post_ids, query.params.get_int(MAX_POSTS), self._is_unmet(query, found))
        return CandidateBatch({POST_ID: found.post_ids[rows], RETRIEVAL_SCORE: found.weights[rows].astype(np.float32)})

    def explain(self, query: Query, key: int) -> str:
        """Say how many viewers with a like taste engaged with it."""
        if unfit := why_not(query, self._posts, key):
            return unfit
        if key in engaged_with(query, self._index):
            return "you engaged with it yourself"
        n_liked = min(len(query[LIKED_POSTS]), query.params.get_int(MAX_LIKED))
        if not n_liked:
            return "you have not liked anything yet by which viewers with your taste could be found"
        viewers = self._viewers(query)
        found = self._engaged_by(query, viewers)
        place = np.flatnonzero(found.post_ids == key)
        n_viewers = len(viewers.user_ids)
        if not len(place):
            return (
                f"none of the {n_viewers} viewers most like you, by {n_liked} posts you liked, engaged with it lately"
            )
        n_better = int((self._is_unmet(query, found) & (found.weights > found.weights[place[0]])).sum())
        return (
            f"{found.n_users[place[0]]} of the {n_viewers} viewers most like you engaged with it; {n_better} posts "
            f"have more to say for them, and the cap is {query.params.get_int(MAX_POSTS)}"
        )

    def _viewers(self, query: Query) -> LikeMinded:
        params = query.params
        return self._tastes.like_minded(
            query[LIKED_POSTS][: params.get_int(MAX_LIKED)],
            max_per_post=params.get_int(MAX_PER_POST),
            exclude_user=query.viewer_id,
            max_users=params.get_int(MAX_VIEWERS),
            max_engaged=params.get_int(HYPERACTIVE),
            damping=params.get_float(DAMPING),
        )

    def _engaged_by(self, query: Query, viewers: LikeMinded) -> EngagedBy:
        return self._tastes.engaged_by(viewers.user_ids, viewers.similarity, query.params.get_int(MAX_PER_VIEWER))

    def _is_unmet(self, query: Query, found: EngagedBy) -> BoolArray:
        return is_unmet(query, found.post_ids, self._index, self._posts)
