"""Scans by product-quantised codes, compiled: 16 bytes of a row are read instead of 256, and the best scored again.

With the inner product as the measure, what a code says is the score of the list's centroid plus one number a part, from
a table that is made once for each query.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="assignment, no-any-return, arg-type, return-value"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.inference.vector_index_kernels import (
    BLOCK,
    FASTMATH,
    LOG2_BLOCK,
    PENDING,
    Best,
    Columns,
    Float32Array,
    Rule,
    UInt8Array,
    dot,
    eligible_rows,
    offer,
    offer_rows,
)

Int8Array = npt.NDArray[np.int8]


@njit(cache=True)
def code_table(query: Float32Array, codebooks: Float32Array) -> Float32Array:
    """Return the inner product of each part of a query with each word of its codebook, shape (parts, 256)."""
    n_parts, n_words, width = codebooks.shape
    table = np.empty((n_parts, n_words), dtype=np.float32)
    for part in range(n_parts):
        for word in range(n_words):
            table[part, word] = dot(codebooks[part, word], query[part * width : (part + 1) * width])
    return table


@njit(cache=True, fastmath=FASTMATH)
def encoded(vectors: Float32Array, lists: Int32Array, centroids: Float32Array, codebooks: Float32Array) -> UInt8Array:
    """Return the codes of vectors, shape (n, parts): of each part of what the centroid leaves, the nearest word."""
    n_parts, n_words, width = codebooks.shape
    codes = np.empty((len(vectors), n_parts), dtype=np.uint8)
    by_dim = np.empty((n_parts, width, n_words), dtype=np.float32)  # words side by side: one lane each
    half_squares = np.zeros((n_parts, n_words), dtype=np.float32)
    for part in range(n_parts):
        for word in range(n_words):
            for dim in range(width):
                by_dim[part, dim, word] = codebooks[part, word, dim]
                half_squares[part, word] += np.float32(0.5) * codebooks[part, word, dim] ** 2
    near = np.empty(n_words, dtype=np.float32)
    for i in range(len(vectors)):
        for part in range(n_parts):
            for word in range(n_words):
                near[word] = -half_squares[part, word]
            for dim in range(width):
                at = part * width + dim
                rest = vectors[i, at] - centroids[lists[i], at]
                words = by_dim[part, dim]
                for word in range(n_words):
                    near[word] += rest * words[word]
            codes[i, part] = np.argmax(near)
    return codes


@njit(cache=True)
def _score_codes(
    codes: UInt8Array, table: Float32Array, found: Int64Array, base: float, n: int, scores: Float32Array
) -> None:
    n_parts = codes.shape[1]
    for i in range(n):
        row = found[i]
        score = np.float32(base)
        for part in range(n_parts):
            score += table[part, codes[row, part]]
        scores[i] = score


@njit(cache=True)
def scan_codes(
    columns: Columns,
    codes: UInt8Array,
    lists: Int64Array,
    hopes: Float32Array,
    list_scores: Float32Array,
    table: Float32Array,
    rule: Rule,
    best: Best,
    rough: Best,
) -> int:
    """Do what `scan_vectors` does by what codes say: ``rough`` has room for more than ``best``, which says when to end.

    ``list_scores`` are the query's with the centroids, by list.
    """
    found = np.empty(PENDING + BLOCK, dtype=np.int64)
    scores = np.empty(PENDING + BLOCK, dtype=np.float32)
    n_pending, n_read, k = 0, 0, len(best.scores)
    while n_read < len(lists) and (best.n[0] < k or hopes[n_read] >= best.scores[0]):
        number = lists[n_read]
        block, n_left = columns.heads[number] - 1, columns.n_by_list[number]
        while n_left > 0:
            n_pending = eligible_rows(columns, rule, block << LOG2_BLOCK, min(n_left, BLOCK), found, n_pending)
            block = columns.next_block[block] - 1
            n_left -= BLOCK
            if n_pending >= PENDING or n_left <= 0:
                _score_codes(codes, table, found, list_scores[number], n_pending, scores)
                offer_rows(best, columns.post_ids, found, n_pending, scores)
                offer_rows(rough, columns.post_ids, found, n_pending, scores)
                n_pending = 0
        n_read += 1
    return n_read


@njit(cache=True, fastmath=FASTMATH)
def rescore(whole: Int8Array, query: Float32Array, rough: Best, best: Best) -> None:
    """Offer the rows of a rough answer by their int8 vectors, taken as of length 1."""
    for i in range(rough.n[0]):
        row = rough.rows[i]
        score, square = np.float32(0.0), np.float32(0.0)
        for dim in range(len(query)):
            value = np.float32(whole[row, dim])
            score += value * query[dim]
            square += value * value
        if square > 0.0:
            score /= np.sqrt(square)
        offer(best, np.float32(score), rough.ids[i], row)
