"""What every `VectorIndex` must do; subclass `VectorIndexContract`, give it a ``make_index`` fixture: pytest runs it.

The fixture returns a function from vectors to begin with, which it may learn from, to an index that holds them as posts
1, 2, 3 ... (`fill`). Answers of the small worlds here are exact in every implementation; how much an approximate one
finds of a large world is that one's own test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pytest

from millrace.base.errors import SchemaError
from millrace.base.ids import Int64Array
from millrace.inference.vector_index import EVERYTHING, Eligibility, VectorIndex
from millrace.inference.vector_index_kernels import Float32Array

N_DIMS: Final = 8
HOUR_MS: Final = 3_600_000

MakeIndex = Callable[[Float32Array], VectorIndex]


def unit(vectors: Sequence[Sequence[float]] | Float32Array) -> Float32Array:
    """Return vectors of length 1, filled up with zeros to the index's length."""
    rows = np.zeros((len(vectors), N_DIMS), dtype=np.float32)
    for row, vector in enumerate(vectors):
        rows[row, : len(vector)] = vector
    unit_rows: Float32Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit_rows


def random_vectors(n: int, seed: int = 7) -> Float32Array:
    """Return ``n`` unit vectors around 20 places, so that some are near each other."""
    rng = np.random.default_rng(seed)
    places = rng.standard_normal((20, N_DIMS))
    return unit((places[rng.integers(0, 20, n)] + 0.4 * rng.standard_normal((n, N_DIMS))).astype(np.float32))


def fill(
    index: VectorIndex,
    vectors: Float32Array,
    *,
    post_ids: Sequence[int] | Int64Array | None = None,
    created_ms: Sequence[int] | None = None,
    authors: Sequence[int] | None = None,
    languages: Sequence[int] | None = None,
) -> None:
    """Add vectors as posts 1, 2, 3 ..., created at 100, 200, 300 ..., by authors 11, 12, 13 ..., if not told else."""
    counted = np.arange(1, len(vectors) + 1)
    index.add(
        np.array(counted if post_ids is None else post_ids, dtype=np.int64),
        vectors,
        np.array(100 * counted if created_ms is None else created_ms, dtype=np.int64),
        np.array(10 + counted if authors is None else authors, dtype=np.int64),
        np.array(0 * counted if languages is None else languages, dtype=np.int32),
    )


def found(index: VectorIndex, query: Float32Array, k: int = 10, eligibility: Eligibility = EVERYTHING) -> list[int]:
    """Return the ids that one query finds, best first; ids and scores have their types."""
    ids, scores = index.search(query, k, eligibility)
    assert ids.dtype == np.int64
    assert scores.dtype == np.float32
    assert ids.shape == scores.shape
    assert (scores[1:] <= scores[:-1]).all()
    answer: list[int] = ids.tolist()
    return answer


def ids_of(*ids: int) -> Int64Array:
    """Return ids as an array."""
    return np.array(ids, dtype=np.int64)


EAST: Final = unit([[1, 0]])[0]
FAN: Final = unit([[1, 0.1], [1, 0.2], [1, 0.4], [1, 0.8]])
"""Posts 1 to 4, ever farther from `EAST`."""


class VectorIndexContract:
    """Behaviour shared by all vector indexes."""

    def test_the_nearest_come_first(self, make_index: MakeIndex) -> None:
        """Their scores are inner products."""
        index = make_index(FAN)
        ids, scores = index.search(EAST, 3)
        assert ids.tolist() == [1, 2, 3]
        assert scores.tolist() == pytest.approx([0.995, 0.981, 0.928], abs=0.004)
        assert (index.n, index.n_dims) == (4, N_DIMS)
        assert index.n_bytes > 4 * N_DIMS

    def test_equal_scores_are_in_order_of_id(self, make_index: MakeIndex) -> None:
        """And of many equal ones the smallest ids are kept."""
        index = make_index(FAN[:0])
        fill(index, np.repeat(FAN[:1], 100, axis=0), post_ids=np.random.default_rng(3).permutation(100) - 50 + 1000)
        assert found(index, EAST, 5) == [950, 951, 952, 953, 954]

    def test_an_empty_index_finds_nothing(self, make_index: MakeIndex) -> None:
        """Nor is anything found where nothing is asked for, or eligible."""
        assert found(make_index(FAN[:0]), EAST) == []
        assert found(make_index(FAN), EAST, 0) == []
        assert found(make_index(FAN), EAST, 3, Eligibility(not_before_ms=401)) == []

    def test_each_rule_is_applied_before_the_best_are_taken(self, make_index: MakeIndex) -> None:
        """The best eligible one is found although better ones are not eligible."""
        index = make_index(FAN[:0])
        fill(index, FAN, languages=[1, 2, 0, 2])
        code = np.array([2], dtype=np.int32)
        assert found(index, EAST, 1, Eligibility(not_before_ms=200)) == [2]
        assert found(index, EAST, 9, Eligibility(languages=code)) == [2, 3, 4]
        assert found(index, EAST, 9, Eligibility(languages=code, is_unknown_language_allowed=False)) == [2, 4]
        assert found(index, EAST, 1, Eligibility(excluded_authors=ids_of(11, 12))) == [3]
        assert found(index, EAST, 1, Eligibility(excluded_posts=ids_of(-5, 1, 2, 3, 99))) == [4]

    def test_a_language_beyond_those_asked_for_is_not_eligible(self, make_index: MakeIndex) -> None:
        """Codes are compared, whatever is the largest of either."""
        index = make_index(FAN[:0])
        fill(index, FAN, languages=[7, 3, 7, 2])
        assert found(index, EAST, 9, Eligibility(languages=np.array([2, 5], dtype=np.int32))) == [4]

    def test_what_was_added_is_found_by_the_next_search(self, make_index: MakeIndex) -> None:
        """Among many that were there."""
        index = make_index(random_vectors(500))
        fill(index, EAST[None], post_ids=[1_000])
        assert found(index, EAST, 1) == [1_000]
        assert index.n == 501

    def test_what_was_removed_is_found_no_more(self, make_index: MakeIndex) -> None:
        """Removing it twice, or what was never there, is fine; it can come back."""
        index = make_index(FAN)
        index.remove(ids_of(1, 99, 3))
        index.remove(ids_of(1))
        assert found(index, EAST) == [2, 4]
        fill(index, FAN[:1])
        assert found(index, EAST) == [1, 2, 4]

    def test_a_post_that_is_added_again_is_replaced(self, make_index: MakeIndex) -> None:
        """Vector and columns; of one given twice at once the last counts."""
        index = make_index(FAN)
        fill(index, unit([[1, 0.3]]), post_ids=[1], authors=[99])
        assert found(index, EAST) == [2, 1, 3, 4]
        assert found(index, EAST, 9, Eligibility(excluded_authors=ids_of(99))) == [2, 3, 4]
        fill(index, unit([[0, 1], [1, 0]]), post_ids=[4, 4])
        assert found(index, EAST) == [4, 2, 1, 3]
        assert index.n == 4

    def test_many_queries_are_answered_as_each_alone(self, make_index: MakeIndex) -> None:
        """Side by side; short answers are filled up with no id and no score."""
        index = make_index(FAN)
        ids, scores = index.search(unit([[1, 0], [0, 1]]), 5)
        assert ids.tolist() == [[1, 2, 3, 4, 0], [4, 3, 2, 1, 0]]
        assert scores[:, 4].tolist() == [-np.inf, -np.inf]

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_query_that_is_not_finite_is_refused(self, make_index: MakeIndex, bad: float) -> None:
        """By name, as is one of another length."""
        query = EAST.copy()
        query[3] = bad
        with pytest.raises(SchemaError, match="query vector 0: this row of it is not finite"):
            make_index(FAN).search(query, 3)
        with pytest.raises(SchemaError, match="not of length 8"):
            make_index(FAN).search(EAST[:3], 3)

    def test_rows_that_cannot_be_are_refused_as_a_whole(self, make_index: MakeIndex) -> None:
        """Nothing of them is added."""
        index = make_index(FAN)
        broken = FAN.copy()
        broken[2, 0] = np.nan
        with pytest.raises(SchemaError, match="vector of post 7 nan: its length is not 1"):
            fill(index, broken, post_ids=[5, 6, 7, 8])
        with pytest.raises(SchemaError, match="post id 0: 0 means none"):
            fill(index, FAN[:1], post_ids=[0])
        with pytest.raises(SchemaError, match="post languages -1"):
            fill(index, FAN[:1], languages=[-1])
        assert found(index, EAST) == [1, 2, 3, 4]

    def test_any_sequence_of_changes_leaves_what_a_dictionary_holds(self, make_index: MakeIndex) -> None:
        """Adding, replacing, removing, also while lists are learnt anew; every post is then found as it was last."""
        rng = np.random.default_rng(5)
        pool = random_vectors(2_000)
        index, held = make_index(pool[:200]), {number + 1: pool[number] for number in range(200)}
        for _ in range(30):
            ids = rng.choice(300, rng.integers(1, 120), replace=False) + 1
            if rng.random() < 0.5:
                index.remove(ids)
                held = {post_id: vector for post_id, vector in held.items() if post_id not in ids}
            else:
                vectors = pool[rng.choice(len(pool), len(ids), replace=False)]
                fill(index, vectors, post_ids=ids)
                held.update(zip(ids.tolist(), vectors, strict=True))
            index.tend(50)
            assert index.n == len(held)
        ids, scores = index.search(EAST, 1_000)
        assert sorted(ids.tolist()) == sorted(held)
        expected = np.array([held[post_id] @ EAST for post_id in ids.tolist()])
        assert np.abs(scores - expected).max() < 0.01
        index.close()
        index.close()
