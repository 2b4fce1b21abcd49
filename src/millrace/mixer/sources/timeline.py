"""Posts by the accounts that the viewer follows, strictly by time: what a chronological timeline shows."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.features.query_fields import BEGINNING, BOUNDARY, FOLLOWING, Boundary
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.sources.facts import accounts, why_not
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source
from millrace.stores.post_store import PostStore

MAX_DEPTH: Final = Param("timeline.max_posts", 20_000, 1, 1_000_000, "how many posts deep the timeline goes")

_FIRST_READ: Final = 256
_MORE: Final = 4


def comes_after(boundary: Boundary, created_ms: Int64Array, post_ids: Int64Array) -> BoolArray:
    """Return which posts come after what lies behind the viewer, shape (n,), bool."""
    is_after: BoolArray = (created_ms < boundary.end_ms) | (
        (created_ms == boundary.end_ms) & (post_ids > boundary.end_id)
    )
    return is_after


def n_wanted(limit: int) -> int:
    """Return how many posts after the boundary are read for a page: filters may drop many, and the page be full."""
    return 4 * limit + 100


class TimelineSource(Source):
    """Takes the posts of the followed accounts from the top of the scroll on, newest first, with X's reply rule.

    What lies behind the viewer is read again, so that a content that was shown there is not shown once more below.
    What is newer than the top of the scroll is not: it does not shift the pages.
    """

    name = "timeline"
    reads = (FOLLOWING, BOUNDARY)
    params = (MAX_AGE_H,)
    cap = MAX_DEPTH

    def __init__(self, posts: PostStore) -> None:
        self._posts = posts

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts newest first, ties by id: all from the top on, and enough of what comes after the boundary."""
        boundary = query[BOUNDARY]
        max_depth = query.params.get_int(MAX_DEPTH)
        n_read = min(_FIRST_READ, max_depth)
        while True:
            rows = self._newest(query, n_read)
            found = self._posts.gather(rows)
            n_after = int(np.count_nonzero(comes_after(boundary, found.created_ms, found.post_id)))
            if len(rows) < n_read or n_after >= n_wanted(query.limit) or n_read == max_depth:
                break
            n_read = min(_MORE * n_read, max_depth)
        if boundary == BEGINNING:
            return CandidateBatch({POST_ID: found.post_id})
        return CandidateBatch({POST_ID: found.post_id[~_is_above(boundary, found.created_ms, found.post_id)]})

    def explain(self, query: Query, key: int) -> str:
        """Say whether its author is followed, and how deep it lies."""
        if unfit := why_not(query, self._posts, key, for_strangers=False):
            return unfit
        following, boundary = query[FOLLOWING], query[BOUNDARY]
        post = self._posts.gather(self._posts.find(np.array([key])))
        if post.author_id[0] not in following:
            return f"its author is not among the {accounts(len(following))} that you follow"
        if boundary != BEGINNING and _is_above(boundary, post.created_ms, post.post_id)[0]:
            return "it is newer than the top of this scroll: a reload shows it"
        max_depth = query.params.get_int(MAX_DEPTH)
        ids = self._posts.post_ids(self._newest(query, max_depth))
        if key in ids:
            before = int(np.flatnonzero(ids == key)[0])
            return f"those you follow published {before:,} newer ones, and a page looks only as deep as fills it"
        if len(ids) == max_depth:
            return f"the timeline is {max_depth:,} posts deep, and those you follow published as many newer ones"
        return "it answers or reposts something that those who follow its author are not shown"

    def _newest(self, query: Query, max_posts: int) -> Int32Array:
        following = query[FOLLOWING]
        return self._posts.newest(
            following,
            viewer_id=query.viewer_id,
            now_ms=query.now_ms,
            max_age_ms=max_age_ms(query),
            max_posts=max_posts,
            follows=following,
        )


def _is_above(boundary: Boundary, created_ms: Int64Array, post_ids: Int64Array) -> BoolArray:
    """Return which posts are newer than the top of the scroll, shape (n,), bool."""
    is_above: BoolArray = (created_ms > boundary.top_ms) | (
        (created_ms == boundary.top_ms) & (post_ids < boundary.top_id)
    )
    return is_above
