"""The kernels of `millrace.content.text_index`: one that folds, and three that read. Readers never write."""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, slot_of, table_find, table_put, table_remove
from millrace.base.kernels import njit
from millrace.base.tokens import UInt8Array
from millrace.content.ngrams import UInt16Array
from millrace.content.vectors import N_DIMS, Int8Array
from millrace.stores.post_kernels import ORIGINAL, QUOTE

Float32Array = npt.NDArray[np.float32]
Int16Array = npt.NDArray[np.int16]
BoolArray = npt.NDArray[np.bool_]

KIND_BITS: Final = 3
IS_ALIVE: Final = 4
HAS_VECTOR: Final = 8
IS_GIVEN: Final = 16
"""The vector is the operator's: an edit of the text leaves it."""
IS_STRANGERS: Final = 32
"""An original or a quote: what people may get who do not follow the author."""
SCANNED: Final = HAS_VECTOR | IS_STRANGERS

CREATE: Final = 0
EDIT: Final = 1
ANNOTATE: Final = 2
DELETE: Final = 3
ERASE: Final = 4

HAS_IMAGE: Final = 1
HAS_VIDEO: Final = 2
HAS_AUDIO: Final = 4
HAS_LINK: Final = 8

DONE: Final = 0
ROWS_FULL: Final = 1
TABLE_FULL: Final = 2

_BLOCK: Final = (
    256  # rows whose vectors and scores stay in the processor's first cache while all interests look at them
)
_LOWEST: Final = -(1 << 30)


class TextArrays(NamedTuple):
    """The ring, as kernels take it. The k-th post to arrive is in row ``k % max_posts``.

    Attributes
    ----------
    keys, values, n_keys
        The table from post id to row: `millrace.base.int_table`.
    post_ids, author_ids, created_ms
        Shape (n_rows,), int64; a post id of 0 marks a row whose author was erased.
    flags
        Shape (n_rows,), uint8: kind, and whether the post is alive, has a vector, was given it.
    vectors
        Shape (n_rows, 64), int8.
    tokens
        Shape (n_rows, 64), uint16: rows of an embedding bag (`millrace.content.ngrams`).
    traits
        Shape (n_rows,), uint8: what is attached (`HAS_IMAGE` ...).
    revisions
        Shape (n_rows,), int64: number of the change that made the row what it is; ascending over all rows.
    n_arrived
        Shape (1,), int64: posts so far.
    n_changes
        Shape (1,), int64: changes of rows so far.
    """

    keys: Int64Array
    values: Int32Array
    n_keys: Int64Array
    post_ids: Int64Array
    author_ids: Int64Array
    created_ms: Int64Array
    flags: UInt8Array
    vectors: Int8Array
    tokens: UInt16Array
    traits: UInt8Array
    revisions: Int64Array
    n_arrived: Int64Array
    n_changes: Int64Array


class TextChanges(NamedTuple):
    """Events as columns of numbers: shape (n,) each, ``vectors`` and ``tokens`` (n, 64).

    ``keys`` are post ids, of an erasure the author's; ``author_ids``, ``created_ms`` and ``kinds`` are of creations.
    ``traits`` are -1 where an event says nothing of them, ``has_text`` tells whether ``tokens`` count.
    """

    changes: UInt8Array
    keys: Int64Array
    author_ids: Int64Array
    created_ms: Int64Array
    kinds: UInt8Array
    vectors: Int8Array
    tokens: UInt16Array
    has_text: npt.NDArray[np.bool_]
    traits: Int16Array


@njit(cache=True)
def _has_direction(vector: Int8Array) -> bool:
    size = np.int64(0)
    for dim in range(N_DIMS):
        size += abs(np.int64(vector[dim]))
    return size > 0


@njit(cache=True)
def _write_vector(index: TextArrays, row: int, vector: Int8Array, is_given: int) -> None:
    index.vectors[row] = vector
    flags = index.flags[row] & (KIND_BITS | IS_ALIVE | IS_STRANGERS)
    if _has_direction(vector):
        flags |= HAS_VECTOR
    index.flags[row] = np.uint8(flags | is_given)


@njit(cache=True)
def _write_content(index: TextArrays, row: int, changes: TextChanges, i: int) -> None:
    """Write what an event says of a post's text and attachments, and number the change."""
    if changes.has_text[i]:
        index.tokens[row] = changes.tokens[i]
    if changes.traits[i] >= 0:
        # An edit names media, never a link: the one that is known stays.
        index.traits[row] = np.uint8((index.traits[row] & HAS_LINK) | changes.traits[i])
    _number(index, row)


@njit(cache=True)
def _number(index: TextArrays, row: int) -> None:
    index.n_changes[0] += 1
    index.revisions[row] = index.n_changes[0]


@njit(cache=True)
def _clear(index: TextArrays, row: int) -> None:
    """Forget the post of a row, if there is one."""
    if index.post_ids[row] == 0:
        return
    table_remove(index.keys, index.values, index.post_ids[row])
    index.n_keys[0] -= 1
    index.post_ids[row] = 0
    index.author_ids[row] = 0
    index.created_ms[row] = 0
    index.flags[row] = 0
    index.vectors[row] = 0
    index.tokens[row] = 0
    index.traits[row] = 0
    _number(index, row)


@njit(cache=True)
def _row_of(index: TextArrays, post_id: int) -> int:
    slot = table_find(index.keys, post_id)
    return np.int64(index.values[slot]) if slot >= 0 else np.int64(-1)


@njit(cache=True)
def _create(index: TextArrays, changes: TextChanges, i: int, max_posts: int) -> int:
    """Put a new post in the place of the oldest; return what is full, and then it has to be tried again."""
    row = index.n_arrived[0] % max_posts
    if row == len(index.post_ids):
        return ROWS_FULL
    _clear(index, row)
    if (index.n_keys[0] + 1) * 2 > len(index.keys):
        return TABLE_FULL
    table_put(index.keys, index.values, changes.keys[i], row)
    index.n_keys[0] += 1
    index.n_arrived[0] += 1
    index.post_ids[row] = changes.keys[i]
    index.author_ids[row] = changes.author_ids[i]
    index.created_ms[row] = changes.created_ms[i]
    kind = changes.kinds[i]
    index.flags[row] = np.uint8(kind | IS_ALIVE | (IS_STRANGERS if kind in (ORIGINAL, QUOTE) else 0))
    _write_vector(index, row, changes.vectors[i], 0)
    _write_content(index, row, changes, i)
    return DONE


@njit(cache=True)
def apply_changes(index: TextArrays, changes: TextChanges, start: int, max_posts: int) -> tuple[int, int]:
    """Apply changes from ``start`` on; return where it stopped and what is full there (`DONE`: nothing)."""
    for i in range(start, len(changes.keys)):
        change, key = changes.changes[i], changes.keys[i]
        if change == ERASE:
            for row in range(len(index.post_ids)):
                if index.author_ids[row] == key:
                    _clear(index, row)
            continue
        row = _row_of(index, key)
        if change == CREATE:
            full = _create(index, changes, i, max_posts) if row < 0 else DONE
            if full != DONE:
                return i, full
        elif row >= 0 and index.flags[row] & IS_ALIVE:
            if change == DELETE:
                index.flags[row] &= np.uint8(KIND_BITS)
                index.vectors[row] = 0
                index.tokens[row] = 0
                _number(index, row)
            elif change == ANNOTATE:
                _write_vector(index, row, changes.vectors[i], IS_GIVEN)
                _number(index, row)
            else:
                if changes.has_text[i] and not index.flags[row] & IS_GIVEN:
                    _write_vector(index, row, changes.vectors[i], 0)
                _write_content(index, row, changes, i)
    return len(changes.keys), DONE


@njit(cache=True, fastmath={"reassoc"})
def unit_vectors(vectors: Int8Array, flags: UInt8Array, rows: Int32Array) -> tuple[Float32Array, BoolArray]:
    """Return the vectors of rows at length 1, shape (n, 64), zeros where there is none, and whether there is one."""
    out = np.zeros((len(rows), N_DIMS), dtype=np.float32)
    has = np.zeros(len(rows), dtype=np.bool_)
    for i in range(len(rows)):
        row = rows[i]
        if row < 0 or not flags[row] & HAS_VECTOR:
            continue
        square = np.float32(0.0)  # exact in any order: it stays below 2^24
        for dim in range(N_DIMS):
            value = np.float32(vectors[row, dim])
            square += value * value
        share = np.float32(1.0 / math.sqrt(square))
        for dim in range(N_DIMS):
            out[i, dim] = np.float32(vectors[row, dim]) * share
        has[i] = True
    return out, has


@njit(cache=True)
def newest_originals(index: TextArrays, max_rows: int, max_posts: int) -> Int32Array:
    """Return the rows of the newest live originals, latest arrival first."""
    n_kept = min(index.n_arrived[0], max_posts)
    out = np.empty(max(min(max_rows, n_kept), 0), dtype=np.int32)
    row = index.n_arrived[0] % max_posts
    n = 0
    for _ in range(n_kept):
        if n == len(out):
            break
        row = row - 1 if row > 0 else max_posts - 1
        if index.flags[row] & (KIND_BITS | IS_ALIVE) == ORIGINAL | IS_ALIVE:
            out[n] = row
            n += 1
    return out[:n]


@njit(cache=True)
def _is_worse(post_ids: Int64Array, score: int, row: int, other_score: int, other_row: int) -> bool:
    return score < other_score or (score == other_score and post_ids[row] > post_ids[other_row])


@njit(cache=True)
def _sift_down(post_ids: Int64Array, scores: Int32Array, rows: Int32Array, n: int, score: int, row: int) -> None:
    """Put a score in the place of the heap's root, the worst of ``n``, and order the heap."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and _is_worse(post_ids, scores[child + 1], rows[child + 1], scores[child], rows[child]):
            child += 1
        if not _is_worse(post_ids, scores[child], rows[child], score, row):
            break
        scores[at], rows[at] = scores[child], rows[child]
        at = child
    scores[at], rows[at] = score, row


@njit(cache=True)
def _sift_up(post_ids: Int64Array, scores: Int32Array, rows: Int32Array, at: int, score: int, row: int) -> None:
    while at > 0:
        parent = (at - 1) // 2
        if not _is_worse(post_ids, score, row, scores[parent], rows[parent]):
            break
        scores[at], rows[at] = scores[parent], rows[parent]
        at = parent
    scores[at], rows[at] = score, row


@njit(cache=True)
def _set_of(members: Int64Array) -> Int64Array:
    size = 16
    while size < 4 * len(members):
        size *= 2
    found = np.zeros(size, dtype=np.int64)
    mask = np.int64(size - 1)
    for member in members:
        slot = slot_of(member, mask)
        while found[slot] != 0 and found[slot] != member:
            slot = (slot + 1) & mask
        found[slot] = member
    return found


@njit(cache=True)
def scan_similar(
    index: TextArrays,
    interests: Int16Array,
    oldest_ms: int,
    n_scanned: int,
    min_score: int,
    max_rows: int,
    exclude_ids: Int64Array,
    exclude_author_id: int,
    max_posts: int,
) -> tuple[Int32Array, Int32Array]:
    """Return rows and scores of the posts most like one of the interests, best first, ties by post id ascending.

    The score is the largest dot product of whole numbers. Goes back block by block through the newest ``n_scanned``
    eligible posts. Every vector of a block is looked at; whether its post may be in the answer is asked only of those
    that are good enough for it.
    """
    best = np.empty(max(max_rows, 0), dtype=np.int32)
    rows = np.empty(len(best), dtype=np.int32)
    if len(best) == 0 or len(interests) == 0:
        return rows[:0], best[:0]
    post_ids, author_ids, created_ms, flags = index.post_ids, index.author_ids, index.created_ms, index.flags
    vectors = index.vectors
    excluded = _set_of(exclude_ids)
    scores = np.empty(_BLOCK, dtype=np.int32)
    n_left = min(index.n_arrived[0], max_posts)
    n = 0
    bar = min_score  # what a score must reach to be looked at
    stop = index.n_arrived[0] % max_posts
    while n_left > 0 and n_scanned > 0:
        stop = stop if stop > 0 else max_posts
        start = stop - min(_BLOCK, stop, n_left)
        n_left -= stop - start
        n_eligible = _count_eligible(flags[start:stop], created_ms[start:stop], oldest_ms)
        while n_eligible > n_scanned:
            n_eligible -= _is_eligible(flags, created_ms, start, oldest_ms)
            start += 1
        n_scanned -= n_eligible
        n_looked = stop - start if _score_block(vectors[start:stop], interests, scores) >= bar else 0
        for i in range(n_looked):
            score = scores[i]
            if score < bar:
                continue
            row = start + i
            if n == len(best) and not _is_worse(post_ids, best[0], rows[0], score, row):
                continue
            if not _is_eligible(flags, created_ms, row, oldest_ms) or author_ids[row] == exclude_author_id:
                continue
            if table_find(excluded, post_ids[row]) >= 0:
                continue
            if n < len(best):
                _sift_up(post_ids, best, rows, n, score, row)
                n += 1
            else:
                _sift_down(post_ids, best, rows, n, score, row)
            if n == len(best):
                bar = best[0]
        stop = start
    return _heap_sorted(post_ids, best[:n], rows[:n])


@njit(cache=True, inline="always")
def _is_eligible(flags: UInt8Array, created_ms: Int64Array, row: int, oldest_ms: int) -> bool:
    return flags[row] & SCANNED == SCANNED and created_ms[row] >= oldest_ms


# Both take slices and count from 0: an index that could be negative keeps LLVM from using vector instructions.


@njit(cache=True)
def _count_eligible(flags: UInt8Array, created_ms: Int64Array, oldest_ms: int) -> int:
    n = 0
    for i in range(len(flags)):
        n += (flags[i] & SCANNED == SCANNED) & (created_ms[i] >= oldest_ms)
    return n


@njit(cache=True)
def _score_block(vectors: Int8Array, interests: Int16Array, scores: Int32Array) -> int:
    """Write for each vector its largest dot product with an interest; return the largest of all.

    One interest at a time, in whole numbers of 16 and 32 bits: these become packed multiply-adds.
    """
    for k in range(len(interests)):
        interest = interests[k]
        for i in range(len(vectors)):
            total = np.int32(0)
            for dim in range(N_DIMS):
                total = np.int32(total + np.int32(interest[dim]) * np.int32(vectors[i, dim]))
            scores[i] = total if k == 0 else max(scores[i], total)
    largest = scores[0]
    for i in range(1, len(vectors)):
        largest = max(largest, scores[i])
    return largest


@njit(cache=True)
def _heap_sorted(post_ids: Int64Array, scores: Int32Array, rows: Int32Array) -> tuple[Int32Array, Int32Array]:
    sorted_rows, sorted_scores = np.empty_like(rows), np.empty_like(scores)
    for n in range(len(rows) - 1, -1, -1):
        sorted_rows[n], sorted_scores[n] = rows[0], scores[0]
        _sift_down(post_ids, scores, rows, n, scores[n], rows[n])
    return sorted_rows, sorted_scores
