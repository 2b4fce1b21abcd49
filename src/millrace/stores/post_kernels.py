"""The write side of the post store in Numba: one kernel applies all kinds of changes in log order.

Each author has three rings of (created_ms, post row), oldest first, at equal times the larger post id first, so that
reading from the end gives newest first with ties by id ascending. A post lives in the ring of its kind and, with a
video, in the ring of videos; when the last ring lets it go, its row is free.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.stores.codes import MAX_TOPICS
from millrace.stores.row_table import N_USED, Rows, rows_drop, rows_find, rows_fit, rows_take
from millrace.stores.slab_lists import COUNT, Slab, slab_insert, slab_remove, slab_shrink, slab_slot

Int8Array = npt.NDArray[np.int8]

CREATE: Final = 0
EDIT: Final = 1
DELETE: Final = 2
ANNOTATE: Final = 3
ERASE: Final = 4

AUTHOR: Final = 0
PARENT: Final = 1
PARENT_AUTHOR: Final = 2
CONVERSATION: Final = 3
N_IDS: Final = 4

FLAGS: Final = 0
DURATION: Final = 1
LANGUAGE: Final = 2
TOPICS: Final = 3
N_FACTS: Final = TOPICS + MAX_TOPICS

ORIGINAL: Final = 0
REPLY: Final = 1
REPOST: Final = 2
QUOTE: Final = 3

KIND_BITS: Final = 3
HAS_VIDEO: Final = 4
IS_SENSITIVE: Final = 8
IN_KIND_RING: Final = 16
IN_VIDEO_RING: Final = 32

SETS_SENSITIVE: Final = 1
SETS_MEDIA: Final = 2
SETS_LANGUAGE: Final = 4
SETS_TOPICS: Final = 8

ORIGINALS: Final = 0
SECONDARY: Final = 1
VIDEOS: Final = 2
N_RINGS: Final = 3

RETENTION: Final = 3
N_SLICES: Final = 4
LARGEST_BLOCK: Final = 5

WATERMARK: Final = 0
NEXT_SLICE: Final = 1

DONE: Final = 0
POSTS_FULL: Final = 1
AUTHORS_FULL: Final = 2
RINGS_FULL: Final = 3
DELETED_FULL: Final = 4


class PostArrays(NamedTuple):
    """The arrays of the store, as kernels take them.

    Attributes
    ----------
    posts
        Post id to row.
    authors
        Author id to row; the author's rings are lists ``3 * row`` to ``3 * row + 2``.
    deleted
        Ids that must not come back, to a row of ``deleted_ms``.
    rings
        All rings; records are (created_ms, post row).
    newest_ms
        Shape (3 * capacity of ``authors``,), int64: the time of each ring's newest post plus 1, 0 for an empty ring. A
        reader passes over most rings by it alone.
    created_ms
        Shape (capacity,), int64.
    ids
        Shape (capacity, 4), int64: AUTHOR, PARENT, PARENT_AUTHOR, CONVERSATION.
    facts
        Shape (capacity, 6), int32: FLAGS, DURATION (ms), LANGUAGE, three TOPICS.
    deleted_ms
        Shape (capacity of ``deleted``,), int64: when each was deleted.
    state
        Shape (2,), int64: the watermark of the last tick, the next slice to trim.
    limits
        Shape (6,), int64: longest ring of each kind, retention in ms, trim slices, largest block of a ring.
    """

    posts: Rows
    authors: Rows
    deleted: Rows
    rings: Slab
    newest_ms: Int64Array
    created_ms: Int64Array
    ids: Int64Array
    facts: Int32Array
    deleted_ms: Int64Array
    state: Int64Array
    limits: Int64Array


class PostChanges(NamedTuple):
    """Changes in log order, columns side by side.

    Attributes
    ----------
    change
        Shape (n,), int8: CREATE, EDIT, DELETE, ANNOTATE or ERASE.
    key
        Shape (n,), int64: the post's id; of ERASE, the user's.
    at_ms
        Shape (n,), int64: creation time of CREATE, effective event time of the others.
    ids, facts
        As in `PostArrays`; zeros where the change says nothing.
    sets
        Shape (n,), int8: bits of what an EDIT or ANNOTATE sets.
    """

    change: Int8Array
    key: Int64Array
    at_ms: Int64Array
    ids: Int64Array
    facts: Int32Array
    sets: Int8Array


@njit(cache=True)
def _release(posts: Rows, created_ms: Int64Array, ids: Int64Array, facts: Int32Array, post: int) -> None:
    rows_drop(posts, post)
    created_ms[post] = 0
    for column in range(N_IDS):
        ids[post, column] = 0
    for column in range(N_FACTS):
        facts[post, column] = 0


@njit(cache=True, inline="always")
def _note_newest(rings: Slab, newest_ms: Int64Array, ring: int) -> None:
    """Keep ``newest_ms`` true after a ring has changed."""
    count = rings.rows[ring, COUNT]
    newest_ms[ring] = rings.words[slab_slot(rings, ring, count - 1), 0] + 1 if count > 0 else 0


@njit(cache=True)
def _evict_oldest(
    posts: Rows,
    rings: Slab,
    newest_ms: Int64Array,
    created_ms: Int64Array,
    ids: Int64Array,
    facts: Int32Array,
    ring: int,
) -> None:
    """Drop the oldest record of a ring, and its post where no other ring holds it."""
    post = rings.words[slab_slot(rings, ring, 0), 1]
    slab_remove(rings, ring, 0)
    _note_newest(rings, newest_ms, ring)
    facts[post, FLAGS] &= ~(IN_VIDEO_RING if ring % N_RINGS == VIDEOS else IN_KIND_RING)
    if facts[post, FLAGS] & (IN_KIND_RING | IN_VIDEO_RING) == 0:
        _release(posts, created_ms, ids, facts, post)


@njit(cache=True, inline="always")
def _place_in_ring(post_ids: Int64Array, rings: Slab, ring: int, created: int, post_id: int) -> int:
    """Return how many records of a ring are older than a post (at equal times: have a larger id)."""
    k = int(np.int64(rings.rows[ring, COUNT]))
    while k > 0:
        slot = slab_slot(rings, ring, k - 1)
        other = rings.words[slot, 0]
        if other < created or (other == created and post_ids[rings.words[slot, 1]] > post_id):
            break
        k -= 1
    return k


@njit(cache=True)
def _put_in_ring(store: PostArrays, ring: int, post: int, bit: int) -> None:
    """Insert a post at its place in time; in a full ring the oldest gives way, which may be the post itself."""
    rings, facts = store.rings, store.facts
    post_ids = store.posts.keys_by_row
    k = _place_in_ring(post_ids, rings, ring, store.created_ms[post], post_ids[post])
    if rings.rows[ring, COUNT] >= store.limits[ring % N_RINGS]:
        if k == 0:
            return
        _evict_oldest(store.posts, rings, store.newest_ms, store.created_ms, store.ids, facts, ring)
        k -= 1
    slot = slab_insert(rings, ring, k)
    rings.words[slot, 0] = store.created_ms[post]
    rings.words[slot, 1] = post
    _note_newest(rings, store.newest_ms, ring)
    facts[post, FLAGS] |= bit


@njit(cache=True)
def _take_from_ring(rings: Slab, newest_ms: Int64Array, facts: Int32Array, ring: int, post: int, bit: int) -> None:
    for k in range(rings.rows[ring, COUNT] - 1, -1, -1):
        if rings.words[slab_slot(rings, ring, k), 1] == post:
            slab_remove(rings, ring, k)
            slab_shrink(rings, ring)
            break
    _note_newest(rings, newest_ms, ring)
    facts[post, FLAGS] &= ~bit


@njit(cache=True, inline="always")
def _kind_ring(author: int, flags: int) -> int:
    return author * N_RINGS + (SECONDARY if flags & KIND_BITS in (REPLY, REPOST) else ORIGINALS)


@njit(cache=True)
def _remove(store: PostArrays, post: int) -> None:
    """Take a post out of its rings and free its row."""
    author = rows_find(store.authors, store.ids[post, AUTHOR])
    flags = store.facts[post, FLAGS]
    if flags & IN_KIND_RING:
        _take_from_ring(store.rings, store.newest_ms, store.facts, _kind_ring(author, flags), post, IN_KIND_RING)
    if flags & IN_VIDEO_RING:
        _take_from_ring(store.rings, store.newest_ms, store.facts, author * N_RINGS + VIDEOS, post, IN_VIDEO_RING)
    _release(store.posts, store.created_ms, store.ids, store.facts, post)


@njit(cache=True)
def _bury(deleted: Rows, deleted_ms: Int64Array, post_id: int, at_ms: int) -> None:
    """Remember that a post is deleted."""
    grave = rows_find(deleted, post_id)
    if grave < 0:
        grave = rows_take(deleted, post_id)
        deleted_ms[grave] = at_ms
    deleted_ms[grave] = max(deleted_ms[grave], at_ms)


@njit(cache=True, inline="always")
def _what_is_full(posts: Rows, authors: Rows, rings: Slab, limits: Int64Array) -> int:
    """Return what has no room for one more post, or DONE."""
    if not rows_fit(posts, 1):
        full = POSTS_FULL
    elif not rows_fit(authors, 1):
        full = AUTHORS_FULL
    elif rings.state[-1] + 2 * limits[LARGEST_BLOCK] > len(rings.words):
        full = RINGS_FULL
    else:
        full = DONE
    return full


@njit(cache=True)
def _name_parent_author(posts: Rows, ids: Int64Array, post: int) -> None:
    """Fill in the author of a live parent where the event left it out."""
    parent = rows_find(posts, ids[post, PARENT])
    if parent >= 0:
        ids[post, PARENT_AUTHOR] = ids[parent, AUTHOR]


@njit(cache=True)
def _create_run(store: PostArrays, changes: PostChanges, start: int) -> tuple[int, int]:  # noqa: C901 - see below
    """Apply the CREATEs from row ``start`` on; return the row after them, or where it stopped and what is full."""
    # Numba counts references of every array that passes a call, atomically: with the bundles of thirty arrays that is
    # half a microsecond a call. The one hot path of writing therefore works on single arrays.
    posts, authors, deleted, rings = store.posts, store.authors, store.deleted, store.rings
    newest_ms, created_ms, ids, facts = store.newest_ms, store.created_ms, store.ids, store.facts
    limits = store.limits
    change, key, at_ms, new_ids, new_facts = changes.change, changes.key, changes.at_ms, changes.ids, changes.facts
    oldest_ms = store.state[WATERMARK] - limits[RETENTION]
    for i in range(start, len(key)):
        if change[i] != CREATE:
            return i, DONE
        post_id = key[i]
        if rows_find(posts, post_id) >= 0 or at_ms[i] < oldest_ms or rows_find(deleted, post_id) >= 0:
            continue
        full = _what_is_full(posts, authors, rings, limits)
        if full != DONE:
            return i, full
        author = rows_find(authors, new_ids[i, AUTHOR])
        if author < 0:
            author = rows_take(authors, new_ids[i, AUTHOR])
        flags = new_facts[i, FLAGS]
        ring = _kind_ring(author, flags)
        k = _place_in_ring(posts.keys_by_row, rings, ring, at_ms[i], post_id)
        if rings.rows[ring, COUNT] >= limits[ring % N_RINGS]:
            if k > 0:
                _evict_oldest(posts, rings, newest_ms, created_ms, ids, facts, ring)
            k -= 1
        if k < 0 and not flags & HAS_VIDEO:
            continue
        post = rows_take(posts, post_id)
        created_ms[post] = at_ms[i]
        for column in range(N_IDS):
            ids[post, column] = new_ids[i, column]
        for column in range(N_FACTS):
            facts[post, column] = new_facts[i, column]
        if ids[post, PARENT] != 0 and ids[post, PARENT_AUTHOR] == 0:
            _name_parent_author(posts, ids, post)
        if k >= 0:
            slot = slab_insert(rings, ring, k)
            rings.words[slot, 0] = at_ms[i]
            rings.words[slot, 1] = post
            _note_newest(rings, newest_ms, ring)
            facts[post, FLAGS] |= IN_KIND_RING
        if flags & HAS_VIDEO:
            _put_in_ring(store, author * N_RINGS + VIDEOS, post, IN_VIDEO_RING)
            if facts[post, FLAGS] & (IN_KIND_RING | IN_VIDEO_RING) == 0:
                _release(posts, created_ms, ids, facts, post)
    return len(key), DONE


@njit(cache=True)
def _edit(store: PostArrays, changes: PostChanges, i: int) -> int:
    post = rows_find(store.posts, changes.key[i])
    if post < 0:
        return DONE
    sets, new_flags = changes.sets[i], changes.facts[i, FLAGS]
    if store.rings.state[-1] + 2 * store.limits[LARGEST_BLOCK] > len(store.rings.words):
        return RINGS_FULL
    if sets & SETS_SENSITIVE:
        store.facts[post, FLAGS] = (store.facts[post, FLAGS] & ~IS_SENSITIVE) | (new_flags & IS_SENSITIVE)
    if sets & SETS_LANGUAGE:
        store.facts[post, LANGUAGE] = changes.facts[i, LANGUAGE]
    if sets & SETS_TOPICS:
        for column in range(TOPICS, N_FACTS):
            store.facts[post, column] = changes.facts[i, column]
    if sets & SETS_MEDIA:
        store.facts[post, DURATION] = changes.facts[i, DURATION]
        store.facts[post, FLAGS] = (store.facts[post, FLAGS] & ~HAS_VIDEO) | (new_flags & HAS_VIDEO)
        flags = store.facts[post, FLAGS]
        ring = rows_find(store.authors, store.ids[post, AUTHOR]) * N_RINGS + VIDEOS
        if flags & HAS_VIDEO and not flags & IN_VIDEO_RING:
            _put_in_ring(store, ring, post, IN_VIDEO_RING)
        elif not flags & HAS_VIDEO and flags & IN_VIDEO_RING:
            _take_from_ring(store.rings, store.newest_ms, store.facts, ring, post, IN_VIDEO_RING)
        if store.facts[post, FLAGS] & (IN_KIND_RING | IN_VIDEO_RING) == 0:
            _release(store.posts, store.created_ms, store.ids, store.facts, post)
    return DONE


@njit(cache=True)
def _delete(store: PostArrays, post_id: int, at_ms: int) -> int:
    if not rows_fit(store.deleted, 1):
        return DELETED_FULL
    _bury(store.deleted, store.deleted_ms, post_id, at_ms)
    post = rows_find(store.posts, post_id)
    if post >= 0:
        _remove(store, post)
    return DONE


@njit(cache=True)
def _erase(store: PostArrays, user_id: int, at_ms: int) -> int:
    """Forget an author: delete their posts, and their name from replies to them."""
    author = rows_find(store.authors, user_id)
    if author >= 0:
        n_posts = 0
        for ring in range(author * N_RINGS, (author + 1) * N_RINGS):
            n_posts += store.rings.rows[ring, COUNT]
        if not rows_fit(store.deleted, n_posts):
            return DELETED_FULL
        for ring in range(author * N_RINGS, (author + 1) * N_RINGS):
            while store.rings.rows[ring, COUNT] > 0:
                post = store.rings.words[slab_slot(store.rings, ring, 0), 1]
                _bury(store.deleted, store.deleted_ms, store.posts.keys_by_row[post], at_ms)
                _remove(store, post)
            slab_shrink(store.rings, ring)
        rows_drop(store.authors, author)
    for post in range(store.posts.state[N_USED]):
        if store.ids[post, PARENT_AUTHOR] == user_id:
            store.ids[post, PARENT_AUTHOR] = 0
    return DONE


@njit(cache=True)
def apply_changes(store: PostArrays, changes: PostChanges, start: int) -> tuple[int, int]:
    """Apply changes from row ``start`` on; return where it stopped and what is full there (DONE: nothing)."""
    i = start
    while i < len(changes.key):
        change = changes.change[i]
        if change == CREATE:
            i, full = _create_run(store, changes, i)
        else:
            if change == DELETE:
                full = _delete(store, changes.key[i], changes.at_ms[i])
            elif change == ERASE:
                full = _erase(store, changes.key[i], changes.at_ms[i])
            else:
                full = _edit(store, changes, i)
            i += full == DONE
        if full != DONE:
            return i, full
    return i, DONE


@njit(cache=True)
def trim(store: PostArrays, watermark_ms: int) -> None:
    """Let go of what is older than the retention: one slice of the authors, all remembered deletions."""
    store.state[WATERMARK] = max(store.state[WATERMARK], watermark_ms)
    oldest_ms = store.state[WATERMARK] - store.limits[RETENTION]
    n_slices = store.limits[N_SLICES]
    for author in range(store.state[NEXT_SLICE], store.authors.state[N_USED], n_slices):
        if store.authors.keys_by_row[author] == 0:
            continue
        n_left = 0
        for ring in range(author * N_RINGS, (author + 1) * N_RINGS):
            while store.rings.rows[ring, COUNT] > 0:
                if store.rings.words[slab_slot(store.rings, ring, 0), 0] >= oldest_ms:
                    break
                _evict_oldest(store.posts, store.rings, store.newest_ms, store.created_ms, store.ids, store.facts, ring)
            slab_shrink(store.rings, ring)
            n_left += store.rings.rows[ring, COUNT]
        if n_left == 0:
            rows_drop(store.authors, author)
    store.state[NEXT_SLICE] = (store.state[NEXT_SLICE] + 1) % n_slices
    for grave in range(store.deleted.state[N_USED]):
        if store.deleted.keys_by_row[grave] != 0 and store.deleted_ms[grave] < oldest_ms:
            rows_drop(store.deleted, grave)
            store.deleted_ms[grave] = 0
