"""What several sources ask of posts and of the viewer, and how they say so when somebody asks why not."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.order import top_k
from millrace.features.query_fields import CLAIMED, LIKED_POSTS, SEEN, SERVED
from millrace.mixer.filters.age import MAX_AGE_H, max_age_ms
from millrace.mixer.kinds import KIND_NAMES, REPLY, REPOST
from millrace.pipeline.column import BoolArray
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.stores.decayed_rows import Float64Array
from millrace.stores.engagement_index import EngagementIndex
from millrace.stores.post_store import PostStore

HAD: Final = (SEEN, SERVED, CLAIMED)
"""The fields by which `is_new` and `had` judge; sources that call them read these."""

_HAD_WORDS: Final = {SEEN: "you have seen it", SERVED: "it was sent to you lately", CLAIMED: "it left for you before"}


def is_new(query: Query, post_ids: Int64Array) -> BoolArray:
    """Return which posts the viewer has neither seen nor been sent: what would be dropped must not take a place."""
    new = np.ones(len(post_ids), dtype=np.bool_)
    for field in HAD:
        new &= ~is_member(post_ids, query[field])
    return new


def had(query: Query) -> Int64Array:
    """Return the posts that the viewer has seen or been sent, shape (n,), int64, repeats included."""
    return np.concatenate([query[field] for field in HAD])


def n_had(query: Query) -> int:
    """Return how many posts at most `is_new` may leave out."""
    return sum(len(query[field]) for field in HAD)


def engaged_with(query: Query, index: EngagementIndex) -> Int64Array:
    """Return the posts that the viewer liked or engaged with, shape (n,), int64, repeats included."""
    return np.concatenate([query[LIKED_POSTS], index.engaged(query.viewer_id).post_ids])


def is_unmet(query: Query, post_ids: Int64Array, index: EngagementIndex, posts: PostStore) -> BoolArray:
    """Return which posts a stranger may show and the viewer has neither had nor engaged with."""
    is_in = is_new(query, post_ids) & ~is_member(post_ids, engaged_with(query, index))
    return is_in & posts.is_fresh_original(post_ids, query.now_ms, max_age_ms(query))


def best(scores: Float64Array, post_ids: Int64Array, max_posts: int, is_in: BoolArray) -> Int64Array:
    """Return the rows of the best of those that are in: score descending, ties by id."""
    rows = np.flatnonzero(is_in)
    return rows[top_k(scores[rows], post_ids[rows], max_posts)]


def why_not(query: Query, posts: PostStore, key: int, *, for_strangers: bool = True) -> str:
    """Return why no source that asks for live, young posts that are new to the viewer returns this one; empty if none.

    Parameters
    ----------
    query
        The hydrated query.
    posts
        The post store as it stands.
    key
        The post.
    for_strangers
        Whether the source asks for originals and quotes only, and for what the viewer has not had.
    """
    ids = np.array([key], dtype=np.int64)
    row = posts.find(ids)
    if row[0] < 0:
        if posts.is_deleted(ids)[0]:
            return "it was deleted"
        return "the post store does not have it: it expired, gave way to newer ones of its author, or never was"
    post = posts.gather(row)
    age_h = (query.now_ms - int(post.created_ms[0])) / 3_600_000
    if query.now_ms - int(post.created_ms[0]) > max_age_ms(query):
        return f"it is {age_h:.1f} hours old; the limit is {query.params.get_float(MAX_AGE_H):g}"
    if not for_strangers:
        return ""
    if int(post.kind[0]) in (REPLY, REPOST):
        return f"it is a {KIND_NAMES[int(post.kind[0])]}; of strangers only originals and quotes are looked for"
    return why_had(query, key)


def why_had(query: Query, content_id: int) -> str:
    """Return how the viewer has had a post before; empty if they have not."""
    ids = np.array([content_id], dtype=np.int64)
    return next((_HAD_WORDS[field] for field in HAD if is_member(ids, query[field])[0]), "")


def accounts(n: int) -> str:
    """Return ``"1 account"``, ``"57 accounts"``."""
    return f"{n:,} account" if n == 1 else f"{n:,} accounts"
