"""The one total order: score descending, non-finite last, ties by id."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.order import top_k


def test_the_best_come_first() -> None:
    assert top_k(np.array([1.0, 3.0, 2.0]), np.array([10, 20, 30]), 2).tolist() == [1, 2]


def test_equal_scores_are_ordered_by_id() -> None:
    assert top_k(np.array([5.0, 5.0, 5.0]), np.array([30, 10, 20]), 2).tolist() == [1, 2]


def test_non_finite_scores_come_last() -> None:
    scores = np.array([math.nan, -1e9, math.inf, -math.inf])
    assert top_k(scores, np.array([1, 2, 3, 4]), 4).tolist() == [1, 0, 2, 3]


def test_nothing_is_a_valid_answer() -> None:
    none = np.empty(0)
    assert top_k(none, np.empty(0, dtype=np.int64), 5).tolist() == []
    assert top_k(np.array([1.0]), np.array([1]), 0).tolist() == []


@given(
    st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(math.nan)), max_size=40),
    st.integers(0, 45),
    st.randoms(use_true_random=False),
)
@settings(max_examples=50, deadline=None)
def test_it_agrees_with_a_plain_sort(scores: list[float], k: int, random: object) -> None:
    ids = list(range(1, len(scores) + 1))
    random.shuffle(ids)  # type: ignore[attr-defined]
    expected = sorted(
        range(len(scores)),
        key=lambda row: (-scores[row] if math.isfinite(scores[row]) else math.inf, ids[row]),
    )[:k]
    got = top_k(np.array(scores, dtype=np.float32), np.array(ids, dtype=np.int64), k)
    assert got.tolist() == expected
