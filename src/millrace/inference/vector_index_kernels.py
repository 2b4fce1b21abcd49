"""The compiled half of the vector indexes: who may be found, how near, and the best so far.

Rows lie in blocks of 64 (`millrace.inference.vector_index_rows`). A scan takes a block at a time: first it notes which
rows are eligible, by cheap comparisons of columns that lie side by side, and only of those it reads the vector. A row
that may not be shown therefore never takes a place among the best ``k``, and costs 20 bytes instead of 276.

Blocked authors and seen posts are looked up in a bitmap of hashes first (at least 32 bits an entry, so about 3 % of
others need a second look), then in the sorted ids.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="assignment, no-any-return, arg-type, return-value"

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit

Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
UInt64Array = npt.NDArray[np.uint64]

BLOCK: Final = 64
"""Rows of a block."""
LOG2_BLOCK: Final = 6

PENDING: Final = 1024
"""Eligible rows that are gathered before their vectors are read: reading columns and vectors by turns is slower."""

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_WORD: Final = np.uint64(6)
_BIT: Final = np.uint64(63)
_ONE: Final = np.uint64(1)
_SHORTEST_LOG2_BITS: Final = 12
_BITS_AN_ENTRY: Final = 32

FASTMATH: Final = {"reassoc", "contract", "nsz"}
"""Sums may be taken in vector lanes: the order is the compiler's, the same in every run of one machine type."""


class IdSet(NamedTuple):
    """Ids to leave out: sorted, with a bitmap of their hashes in front; ``shift`` takes a hash to its bit."""

    ids: Int64Array
    bits: UInt64Array
    shift: np.uint64


class Rule(NamedTuple):
    """An `Eligibility` as kernels take it.

    Attributes
    ----------
    not_before_ms
        Rows created earlier are not eligible.
    is_allowed
        By language code, uint8; empty: any language.
    authors, posts
        Who and what is left out.
    """

    not_before_ms: np.int64
    is_allowed: UInt8Array
    authors: IdSet
    posts: IdSet


class Columns(NamedTuple):
    """What a scan reads of the rows besides vectors; shapes (capacity,).

    Attributes
    ----------
    post_ids, created_ms, author_ids
        int64.
    languages
        int32 codes.
    next_block
        Of each block, the next one of its list plus 1, 0 for the last.
    heads
        Of each list, its first block plus 1, 0 if it is empty.
    n_by_list
        Rows of each list. All blocks of a list but its last are full.
    """

    post_ids: Int64Array
    created_ms: Int64Array
    author_ids: Int64Array
    languages: Int32Array
    next_block: Int32Array
    heads: Int32Array
    n_by_list: Int64Array


class Best(NamedTuple):
    """The best rows so far: a heap with the worst at its root; ``rows`` are where they lie, ``n`` how many (1,)."""

    scores: Float32Array
    ids: Int64Array
    rows: Int64Array
    n: Int64Array


def id_set(ids: Int64Array) -> IdSet:
    """Return sorted ids with their bitmap."""
    log2_bits = max(_SHORTEST_LOG2_BITS, int(len(ids) * _BITS_AN_ENTRY - 1).bit_length())
    bits = np.zeros(1 << (log2_bits - 6), dtype=np.uint64)
    shift = np.uint64(64 - log2_bits)
    _set_bits(ids, bits, shift)
    return IdSet(ids, bits, shift)


def empty_best(k: int) -> Best:
    """Return room for the ``k`` best."""
    return Best(
        scores=np.empty(k, dtype=np.float32),
        ids=np.empty(k, dtype=np.int64),
        rows=np.empty(k, dtype=np.int64),
        n=np.zeros(1, dtype=np.int64),
    )


@njit(cache=True)
def _set_bits(ids: Int64Array, bits: UInt64Array, shift: np.uint64) -> None:
    for i in range(len(ids)):
        at = (np.uint64(ids[i]) * _MIX) >> shift
        bits[at >> _WORD] |= _ONE << (at & _BIT)


@njit(cache=True)
def _holds(ids: Int64Array, key: np.int64) -> bool:
    """Whether sorted ids hold a key."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) >> 1
        if ids[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low < len(ids) and ids[low] == key


@njit(cache=True)
def _unlisted(keys: Int64Array, listed: IdSet, found: Int64Array, start: int, end: int) -> int:
    """Keep of the rows in ``found[start:end]`` those whose key is not listed; return the new end."""
    ids, bits, shift = listed.ids, listed.bits, listed.shift
    kept = start
    for i in range(start, end):
        row = found[i]
        at = (np.uint64(keys[row]) * _MIX) >> shift
        is_maybe = (bits[at >> _WORD] >> (at & _BIT)) & _ONE
        if is_maybe != np.uint64(0) and _holds(ids, keys[row]):
            continue
        found[kept] = row
        kept += 1
    return kept


@njit(cache=True)
def eligible_rows(columns: Columns, rule: Rule, first: int, n: int, found: Int64Array, start: int) -> int:
    """Write which of ``n`` rows from ``first`` on are eligible to ``found`` from ``start`` on; return the end.

    Every row is written and kept if it is eligible: a branch that is taken at random costs more than a store.
    """
    end = start
    created_ms, not_before_ms = columns.created_ms, rule.not_before_ms
    for row in range(first, first + n):
        found[end] = row
        end += created_ms[row] >= not_before_ms
    is_allowed = rule.is_allowed
    if len(is_allowed) != 0:
        languages, last = columns.languages, np.int64(len(is_allowed) - 1)
        kept = start
        for i in range(start, end):
            row = found[i]
            code = np.int64(languages[row])
            found[kept] = row
            kept += np.int64(is_allowed[min(code, last)]) & np.int64(code <= last)
        end = kept
    if len(rule.authors.ids) != 0:
        end = _unlisted(columns.author_ids, rule.authors, found, start, end)
    if len(rule.posts.ids) != 0:
        end = _unlisted(columns.post_ids, rule.posts, found, start, end)
    return end


@njit(cache=True, inline="always")
def _is_worse(score: np.float32, post_id: np.int64, other_score: np.float32, other_id: np.int64) -> bool:
    return score < other_score or (score == other_score and post_id > other_id)


@njit(cache=True)
def offer(best: Best, score: np.float32, post_id: np.int64, row: np.int64) -> None:
    """Keep a row if it is among the best: higher score, then smaller id."""
    scores, ids, rows = best.scores, best.ids, best.rows
    n = best.n[0]
    if n < len(scores):
        at = n
        best.n[0] = n + 1
        while at > 0:
            parent = (at - 1) >> 1
            if not _is_worse(score, post_id, scores[parent], ids[parent]):
                break
            scores[at], ids[at], rows[at] = scores[parent], ids[parent], rows[parent]
            at = parent
    else:
        if n == 0 or not _is_worse(scores[0], ids[0], score, post_id):
            return
        at = 0
        while True:
            child = 2 * at + 1
            if child >= n:
                break
            if child + 1 < n and _is_worse(scores[child + 1], ids[child + 1], scores[child], ids[child]):
                child += 1
            if not _is_worse(scores[child], ids[child], score, post_id):
                break
            scores[at], ids[at], rows[at] = scores[child], ids[child], rows[child]
            at = child
    scores[at], ids[at], rows[at] = score, post_id, row


@njit(cache=True, fastmath=FASTMATH)
def dot(left: Float32Array, right: Float32Array) -> np.float32:
    """Return the inner product of two vectors."""
    total = np.float32(0.0)
    for i in range(len(left)):
        total += left[i] * right[i]
    return total


@njit(cache=True, fastmath=FASTMATH)
def dots(matrix: Float32Array, query: Float32Array) -> Float32Array:
    """Return the inner product of each row with the query, shape (n,)."""
    out = np.empty(len(matrix), dtype=np.float32)
    for i in range(len(matrix)):
        out[i] = dot(matrix[i], query)
    return out


@njit(cache=True)
def nearest(vectors: Float32Array, centroids: Float32Array) -> Int32Array:
    """Return for each vector which centroid has the largest inner product; the first of equals.

    A row's answer depends on that row alone (a BLAS product's last bit depends on how many rows it is given), so that
    a log that is folded in other portions gives the same lists.
    """
    out = np.empty(len(vectors), dtype=np.int32)
    for i in range(len(vectors)):
        best, best_score = 0, np.float32(-np.inf)
        for c in range(len(centroids)):
            score = dot(vectors[i], centroids[c])
            if score > best_score:
                best, best_score = c, score
        out[i] = best
    return out


@njit(cache=True, fastmath=FASTMATH)
def score_rows(vectors: Float32Array, query: Float32Array, found: Int64Array, n: int, scores: Float32Array) -> None:
    """Write the inner products of the first ``n`` rows in ``found`` with a query."""
    n_dims = len(query)
    for i in range(n):
        row = found[i]
        score = np.float32(0.0)
        for dim in range(n_dims):
            score += vectors[row, dim] * query[dim]
        scores[i] = score


@njit(cache=True)
def offer_rows(best: Best, post_ids: Int64Array, found: Int64Array, n: int, scores: Float32Array) -> None:
    """Offer the first ``n`` rows in ``found``."""
    k = len(best.scores)
    worst = best.scores[0] if best.n[0] == k and k > 0 else np.float32(-np.inf)
    for i in range(n):
        if scores[i] >= worst:
            row = found[i]
            offer(best, scores[i], post_ids[row], row)
            if best.n[0] == k and k > 0:
                worst = best.scores[0]


@njit(cache=True)
def scan_vectors(
    columns: Columns,
    vectors: Float32Array,
    lists: Int64Array,
    hopes: Float32Array,
    query: Float32Array,
    rule: Rule,
    best: Best,
) -> int:
    """Offer the eligible rows of lists, in order, until the best are full and better than what lists let hope for.

    Parameters
    ----------
    lists, hopes
        The lists, and of each list the score above which next to none of its rows can be; hopes descending.

    Returns
    -------
    int
        How many lists were read.
    """
    found = np.empty(PENDING + BLOCK, dtype=np.int64)
    scores = np.empty(PENDING + BLOCK, dtype=np.float32)
    n_pending, n_read, k = 0, 0, len(best.scores)
    while n_read < len(lists) and (best.n[0] < k or hopes[n_read] >= best.scores[0]):
        block, n_left = columns.heads[lists[n_read]] - 1, columns.n_by_list[lists[n_read]]
        while n_left > 0:
            n_pending = eligible_rows(columns, rule, block << LOG2_BLOCK, min(n_left, BLOCK), found, n_pending)
            block = columns.next_block[block] - 1
            n_left -= BLOCK
            if n_pending >= PENDING or n_left <= 0:
                score_rows(vectors, query, found, n_pending, scores)
                offer_rows(best, columns.post_ids, found, n_pending, scores)
                n_pending = 0
        n_read += 1
    return n_read
