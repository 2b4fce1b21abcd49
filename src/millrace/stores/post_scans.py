"""Reads of the post store that look at post rows one by one: everybody's newest, some authors' newest, given rows.

Readers never write to the store's arrays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.stores.post_kernels import (
    FLAGS,
    KIND_BITS,
    LANGUAGE,
    N_FACTS,
    N_IDS,
    N_RINGS,
    ORIGINALS,
    REPLY,
    REPOST,
    PostArrays,
)
from millrace.stores.row_table import N_USED, rows_find
from millrace.stores.slab_lists import COUNT, slab_slot


@njit(cache=True, inline="always")
def _is_before(post_ids: Int64Array, created: int, post: int, other_created: int, other_post: int) -> bool:
    return created > other_created or (created == other_created and post_ids[post] < post_ids[other_post])


@njit(cache=True)
def newest_originals(
    store: PostArrays, oldest_ms: int, max_posts: int, is_language_in: npt.NDArray[np.bool_], flags_out: int
) -> Int32Array:
    """Return the rows of the newest originals and quotes of all authors, newest first; one pass over all posts.

    ``is_language_in`` says by code which languages are wanted (codes beyond its end are not; empty: all are),
    ``flags_out`` is a mask of flags of which posts must have none.

    A heap keeps the best so far, its root the worst of them. The pass goes backwards: later rows are mostly later
    posts, so the heap is nearly right after its first few and the rest is one comparison each.
    """
    post_ids, created_ms, facts = store.posts.keys_by_row, store.created_ms, store.facts
    max_posts = min(max_posts, int(store.posts.state[N_USED]))
    created = np.empty(max_posts, dtype=np.int64)
    posts = np.empty(max_posts, dtype=np.int32)
    n_languages = len(is_language_in)
    size = 0
    for post in range(store.posts.state[N_USED] - 1, -1, -1):
        at_ms = created_ms[post]
        if at_ms < oldest_ms or (size == max_posts and at_ms < created[0]) or post_ids[post] == 0:
            continue
        if facts[post, FLAGS] & KIND_BITS in (REPLY, REPOST) or facts[post, FLAGS] & flags_out != 0:
            continue
        language = facts[post, LANGUAGE]
        if n_languages > 0 and (language >= n_languages or not is_language_in[language]):
            continue
        if size < max_posts:
            at = size
            size += 1
            while at > 0:
                parent = (at - 1) // 2
                if not _is_before(post_ids, created[parent], posts[parent], at_ms, post):
                    break
                created[at], posts[at] = created[parent], posts[parent]
                at = parent
            created[at], posts[at] = at_ms, post
        elif _is_before(post_ids, at_ms, post, created[0], posts[0]):
            _replace_worst(post_ids, created, posts, size, at_ms, post)
    out = np.empty(size, dtype=np.int32)
    while size > 0:
        size -= 1
        out[size] = posts[0]
        _replace_worst(post_ids, created, posts, size, created[size], posts[size])
    return out


@njit(cache=True)
def _replace_worst(
    post_ids: Int64Array, created: Int64Array, posts: Int32Array, size: int, new_created: int, new_post: int
) -> None:
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _is_before(
            post_ids, created[child], posts[child], created[child + 1], posts[child + 1]
        ):
            child += 1
        if not _is_before(post_ids, new_created, new_post, created[child], posts[child]):
            break
        created[at], posts[at] = created[child], posts[child]
        at = child
    created[at], posts[at] = new_created, new_post


@njit(cache=True)
def newest_of_each(store: PostArrays, author_ids: Int64Array, oldest_ms: int, max_per_author: int) -> Int32Array:
    """Return the rows of the newest originals and quotes of each author, author by author, newest first."""
    authors, rings = store.authors, store.rings
    out = np.empty(len(author_ids) * max(max_per_author, 0), dtype=np.int32)
    n = 0
    for author_id in author_ids:
        author = rows_find(authors, author_id) if author_id != 0 else -1
        if author < 0:
            continue
        ring = author * N_RINGS + ORIGINALS
        count = rings.rows[ring, COUNT]
        for k in range(count - 1, max(count - max_per_author, 0) - 1, -1):
            slot = slab_slot(rings, ring, k)
            if rings.words[slot, 0] < oldest_ms:
                break
            out[n] = rings.words[slot, 1]
            n += 1
    return out[:n]


@njit(cache=True)
def are_fresh_originals(store: PostArrays, post_ids: Int64Array, oldest_ms: int) -> npt.NDArray[np.bool_]:
    """Return which posts are live, not older than ``oldest_ms``, and originals or quotes."""
    posts, created_ms, facts = store.posts, store.created_ms, store.facts
    # One pass per table: the processor then waits for many at a time.
    rows = np.empty(len(post_ids), dtype=np.int64)
    for i in range(len(post_ids)):
        rows[i] = rows_find(posts, post_ids[i]) if post_ids[i] != 0 else -1
    out = np.zeros(len(post_ids), dtype=np.bool_)
    for i in range(len(post_ids)):
        if rows[i] >= 0:
            out[i] = created_ms[rows[i]] >= oldest_ms and facts[rows[i], FLAGS] & KIND_BITS not in (REPLY, REPOST)
    return out


@njit(cache=True)
def gather_rows(store: PostArrays, rows: Int32Array, ids: Int64Array, facts: Int32Array) -> None:
    """Write the posts of ``rows`` into the columns ``ids`` (2 + 4, n) and ``facts`` (6, n); zeros for row -1."""
    post_ids, created_ms, all_ids, all_facts = store.posts.keys_by_row, store.created_ms, store.ids, store.facts
    for i in range(len(rows)):
        post = rows[i]
        if post < 0:
            ids[:, i] = 0
            facts[:, i] = 0
            continue
        ids[0, i] = post_ids[post]
        ids[1, i] = created_ms[post]
        for column in range(N_IDS):
            ids[2 + column, i] = all_ids[post, column]
        for column in range(N_FACTS):
            facts[column, i] = all_facts[post, column]
