"""`IvfIndex`: lists of posts that lie near each other, of which a search reads the nearest; whole vectors or codes.

How many lists are read depends on the query and the filter: a search goes on, the most promising list first, until it
has as many eligible posts as were asked for and next to none in the lists to come can be better than the worst of them.
A strict filter thus makes a search longer, not worse; where it lets through fewer posts than were asked for, all lists
are read and the answer is exact.

Until there are enough posts to learn lists from, there is one, and every answer is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.base.errors import ConfigError
from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.inference.vector_index import EVERYTHING, Eligibility, checked_rows
from millrace.inference.vector_index_answers import answered
from millrace.inference.vector_index_codes import code_table, rescore, scan_codes
from millrace.inference.vector_index_kernels import (
    Best,
    Float32Array,
    dots,
    empty_best,
    scan_vectors,
)
from millrace.inference.vector_index_partition import one_list
from millrace.inference.vector_index_retraining import Retraining
from millrace.inference.vector_index_rows import VectorRows

_UNBALANCED: Final = 1.5
"""Lists are learnt anew when reading a post's own list takes so many times what it took when they were."""
_OUTGROWN: Final = 4.0
"""Or when there are so many times the posts."""
_MIN_PER_LIST: Final = 39
"""Fewer posts a list teach k-means nothing."""


@dataclass(frozen=True)
class IvfConfig:
    """How an `IvfIndex` is built and searched.

    Parameters
    ----------
    n_lists_per_root
        Lists to learn, per root of the number of posts.
    train_at
        Posts from which on there are lists.
    reach
        How promising a list is: that many standard deviations above the mean score of its posts (`Partition.hopes`).
        Higher finds more and takes longer.
    code_size
        Bytes of a product-quantised code, a divisor of the vectors' length; 0: vectors are kept whole, float32.
    n_rescored_per_k
        With codes: how many rough answers, per post asked for, are compared by their int8 vectors.
    """

    n_lists_per_root: float = 1.5
    train_at: int = 20_000
    reach: float = 3.0
    code_size: int = 0
    n_rescored_per_k: float = 4.0


class IvfIndex:
    """A `VectorIndex` by inverted lists.

    Parameters
    ----------
    n_dims
        Length of a vector.
    tower_version
        Of the item tower that makes the vectors.
    config
        How it is built and searched.

    Raises
    ------
    ConfigError
        If ``code_size`` does not divide ``n_dims``.
    """

    def __init__(self, n_dims: int, tower_version: str, config: IvfConfig | None = None) -> None:
        self.n_dims = n_dims
        self.tower_version = tower_version
        self.config = config or IvfConfig()
        if self.config.code_size and n_dims % self.config.code_size:
            raise ConfigError(
                "code_size", value=self.config.code_size, problem=f"does not divide {n_dims}", remedy="use a divisor"
            )
        self._partition = one_list(n_dims)
        self._rows = VectorRows(n_dims, n_lists=1)
        self._n_trained = 0
        self._imbalance_trained = 1.0
        self._retraining: Retraining | None = None

    @property
    def n(self) -> int:
        """How many posts are here."""
        return len(self._rows)

    @property
    def n_lists(self) -> int:
        """How many lists there are."""
        return len(self._partition.centroids)

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, free room included; during retraining the new ones are not counted."""
        return self._rows.n_bytes + self._partition.centroids.nbytes + self._partition.codebooks.nbytes

    @property
    def imbalance(self) -> float:
        """How many times longer than an average list the list of an average post is."""
        counts = self._rows.columns.n_by_list.astype(np.float64)
        return float(len(counts) * np.square(counts).sum() / max(counts.sum(), 1.0) ** 2) if self.n else 1.0

    @property
    def is_retraining_due(self) -> bool:
        """Whether lists should be learnt: for the first time, or anew."""
        if self.n < max(self.config.train_at, 2 * _MIN_PER_LIST):
            return False
        if self.n > _OUTGROWN * self._n_trained:
            return True
        return self.imbalance > _UNBALANCED * self._imbalance_trained

    def add(
        self,
        post_ids: Int64Array,
        vectors: Float32Array,
        created_ms: Int64Array,
        author_ids: Int64Array,
        languages: Int32Array,
    ) -> None:
        """Add or replace posts, each in the list of the nearest centroid, at once."""
        rows = checked_rows(self.n_dims, post_ids, vectors, created_ms, author_ids, languages)
        lists = self._partition.lists(rows.vectors)
        self._rows.add(rows, lists, self._partition.codes(rows.vectors, lists))
        if self._retraining is not None:
            self._retraining.add(rows)

    def remove(self, post_ids: Int64Array) -> None:
        """Remove posts."""
        unwanted = np.ascontiguousarray(post_ids, dtype=np.int64)
        self._rows.remove(unwanted)
        if self._retraining is not None:
            self._retraining.remove(unwanted)

    def search(
        self, query: Float32Array, k: int, eligibility: Eligibility = EVERYTHING
    ) -> tuple[Int64Array, Float32Array]:
        """Return the best eligible posts of the lists that were read: `VectorIndex.search`."""
        rows, partition, rule, config = self._rows, self._partition, eligibility.rule, self.config

        def scan(one: Float32Array, best: Best) -> Best:
            list_scores = dots(partition.centroids, one)
            hopes = partition.hopes(list_scores, config.reach * float(np.sqrt(one @ one)))
            order = np.argsort(-hopes, kind="stable")
            hopes = hopes[order]
            if partition.code_size == 0:
                scan_vectors(rows.columns, rows.vectors, order, hopes, one, rule, best)
                return best
            rough = empty_best(round(config.n_rescored_per_k * max(k, 0)))
            table = code_table(one, partition.codebooks)
            scan_codes(rows.columns, rows.codes, order, hopes, list_scores, table, rule, best, rough)
            best.n[0] = 0
            rescore(rows.vectors, one, rough, best)
            return best

        return answered(self.n_dims, query, k, scan)

    def tend(self, max_rows: int = 200) -> None:
        """Learn lists if that is due; carry ``max_rows`` posts over to learnt ones; swap when all are there."""
        if self._retraining is None:
            if not self.is_retraining_due:
                return
            self._retraining = self._begun()
        self._swap_if_ready(max_rows)

    def retrain(self) -> None:
        """Learn lists now, and wait for it: after a first filling."""
        if self.n < 2 * _MIN_PER_LIST:
            return
        self.close()
        self._retraining = self._begun()
        self._retraining.wait()
        self._swap_if_ready(self.n)

    def close(self) -> None:
        """Wait for a training to end; what it learnt is not used."""
        if self._retraining is not None:
            self._retraining.wait()
            self._retraining = None

    def _begun(self) -> Retraining:
        n_lists = max(1, min(round(self.config.n_lists_per_root * self.n**0.5), self.n // _MIN_PER_LIST))
        code_size = self.config.code_size if self.n >= _MIN_PER_LIST * 256 else 0
        return Retraining(self._rows, n_lists, code_size)

    def _swap_if_ready(self, max_rows: int) -> None:
        if self._retraining is None:
            return
        ready = self._retraining.advance(max_rows)
        if ready is not None:
            self._partition, self._rows = ready
            self._retraining = None
            self._n_trained, self._imbalance_trained = self.n, self.imbalance
