"""`ExactIndex`: every eligible post is compared. Right for as many posts as one pass takes a few milliseconds for."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.order import top_k
from millrace.inference.vector_index import EVERYTHING, Eligibility, checked_queries, checked_rows
from millrace.inference.vector_index_answers import answered
from millrace.inference.vector_index_kernels import Best, Float32Array, scan_vectors
from millrace.inference.vector_index_rows import VectorRows

_ONE_LIST: Final = np.zeros(1, dtype=np.int64)
_EVERY_HOPE: Final = np.full(1, np.inf, dtype=np.float32)


class ExactIndex:
    """A `VectorIndex` of one list that is read to its end.

    Parameters
    ----------
    n_dims
        Length of a vector.
    tower_version
        Of the item tower that makes the vectors.
    """

    def __init__(self, n_dims: int, tower_version: str) -> None:
        self.n_dims = n_dims
        self.tower_version = tower_version
        self._rows = VectorRows(n_dims, n_lists=1)

    @property
    def n(self) -> int:
        """How many posts are here."""
        return len(self._rows)

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, free room included."""
        return self._rows.n_bytes

    def add(
        self,
        post_ids: Int64Array,
        vectors: Float32Array,
        created_ms: Int64Array,
        author_ids: Int64Array,
        languages: Int32Array,
    ) -> None:
        """Add or replace posts."""
        rows = checked_rows(self.n_dims, post_ids, vectors, created_ms, author_ids, languages)
        self._rows.add(rows, np.zeros(len(rows), dtype=np.int32), np.empty((len(rows), 0), dtype=np.uint8))

    def remove(self, post_ids: Int64Array) -> None:
        """Remove posts."""
        self._rows.remove(np.ascontiguousarray(post_ids, dtype=np.int64))

    def search(
        self, query: Float32Array, k: int, eligibility: Eligibility = EVERYTHING
    ) -> tuple[Int64Array, Float32Array]:
        """Return the best eligible posts: `VectorIndex.search`."""
        rows, rule = self._rows, eligibility.rule

        def scan(one: Float32Array, best: Best) -> Best:
            scan_vectors(rows.columns, rows.vectors, _ONE_LIST, _EVERY_HOPE, one, rule, best)
            return best

        return answered(self.n_dims, query, k, scan)

    def search_reference(
        self, query: Float32Array, k: int, eligibility: Eligibility = EVERYTHING
    ) -> tuple[Int64Array, Float32Array]:
        """Return what `search` returns for one query, by a mask, a matrix product and a partial sort in NumPy."""
        (one,) = checked_queries(self.n_dims, query)
        columns, n = self._rows.columns, self.n  # of one list, all blocks but the last are full: rows are dense
        mask = eligibility.mask(
            columns.post_ids[:n], columns.created_ms[:n], columns.author_ids[:n], columns.languages[:n]
        )
        scores = self._rows.vectors[:n] @ one
        at = np.flatnonzero(mask)
        at = at[top_k(scores[at], columns.post_ids[at], k)]
        return columns.post_ids[at], scores[at]

    def tend(self, max_rows: int = 200) -> None:
        """There is nothing to tend."""

    def close(self) -> None:
        """There is nothing to close."""
