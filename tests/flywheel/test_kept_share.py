"""What a pre-ranker keeps of its ranker's best, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.flywheel.kept_share import kept_of_page, kept_share


def a_page(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values from the best down, ids, and weights of one."""
    return np.arange(n, 0, -1, dtype=np.float32), np.arange(n), np.ones(n)


def test_a_student_of_the_same_order_keeps_all() -> None:
    values, ids, weights = a_page(2_000)
    assert kept_of_page(values, values, ids, weights) == [1.0, 1.0]


def test_the_opposite_order_keeps_nothing() -> None:
    values, ids, weights = a_page(2_000)
    assert kept_of_page(values, -values, ids, weights) == [0.0, 0.0]


def test_shares_are_those_of_the_best_that_are_left() -> None:
    values, ids, weights = a_page(2_000)
    student = values.copy()
    student[:10] = 0.0  # ten of the best fifty fall to the end, and ten others take their places
    assert kept_of_page(values, student, ids, weights) == [40 / 50, 490 / 500]


def test_a_small_page_is_judged_by_the_same_shares_of_it() -> None:
    values, ids, weights = a_page(200)  # five are wanted, or fifty; fifty are left
    student = values.copy()
    student[[0, 7]] = 0.0
    assert kept_of_page(values, student, ids, weights) == [4 / 5, 48 / 50]


def test_more_candidates_than_a_page_has_are_cut_to_as_many() -> None:
    values, ids, weights = a_page(4_000)
    student = values.copy()
    student[:25] = 0.0
    assert kept_of_page(values, student, ids, weights) == [25 / 50, 475 / 500]


def test_a_candidate_that_stands_for_others_counts_as_many_times() -> None:
    values, ids, weights = a_page(400)
    weights[200:] = 9.0  # 2,000 in all: 200 that were ranked, and of the 1,800 that were cut every ninth
    student = values.copy()
    student[:20] = 0.0
    student[200] = 500.0  # first: nine places of the 500
    # 480 places are taken by that one and others, up to the edge; the twenty of the best fifty are not among them.
    fifty, five_hundred = kept_of_page(values, student, ids, weights)
    assert fifty == 30 / 50
    assert five_hundred == pytest.approx(480 / 500)


def test_pages_are_what_is_drawn() -> None:
    values, ids, weights = a_page(2_000)
    student = np.concatenate([values, -values] * 6)
    starts = np.arange(13) * 2_000
    found = kept_share(np.tile(values, 12), student, np.tile(ids, 12), np.tile(weights, 12), starts)
    assert (found.n_pages, found.n_candidates) == (12, 2_000.0)
    assert found.kept_50.value == found.kept_500.value == 0.5
    # A share of twelve that is one in two lies within about two standard errors (0.14 each).
    assert 0.1 < found.kept_50.low < 0.3
    assert 0.7 < found.kept_50.high < 0.9
    assert found == kept_share(np.tile(values, 12), student, np.tile(ids, 12), np.tile(weights, 12), starts)


def test_without_pages_there_is_no_figure() -> None:
    nothing = np.empty(0)
    found = kept_share(nothing, nothing, np.empty(0, np.int64), nothing, np.array([0, 0]))
    assert found.n_pages == 0
    assert np.isnan([found.kept_50.value, found.kept_500.low]).all()
