"""The shape of an answer: one query's best as they are, those of many side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from millrace.base.ids import NO_ID, Int64Array
from millrace.inference.vector_index import checked_queries
from millrace.inference.vector_index_kernels import Best, Float32Array, empty_best


def answered(
    n_dims: int, query: Float32Array, k: int, scan: Callable[[Float32Array, Best], Best]
) -> tuple[Int64Array, Float32Array]:
    """Return the answer of `VectorIndex.search`: ``scan`` fills one query's best."""
    queries = checked_queries(n_dims, query)
    size = max(k, 0)
    if np.ndim(query) == 1:
        return in_order(scan(queries[0], empty_best(size)))
    ids = np.full((len(queries), size), NO_ID, dtype=np.int64)
    scores = np.full((len(queries), size), -np.inf, dtype=np.float32)
    for row, one in enumerate(queries):
        found, found_scores = in_order(scan(one, empty_best(size)))
        ids[row, : len(found)], scores[row, : len(found)] = found, found_scores
    return ids, scores


def in_order(best: Best) -> tuple[Int64Array, Float32Array]:
    """Return ids and scores, best first, ties by id ascending."""
    n = int(best.n[0])
    order = np.lexsort((best.ids[:n], -best.scores[:n]))
    return best.ids[order], best.scores[order]
