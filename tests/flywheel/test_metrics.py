"""Metrics against naive counting, SciPy and identities that must hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from millrace.flywheel.metrics import (
    auc,
    average_precision,
    calibration,
    equal_count_bins,
    expected_calibration_error,
    mean_ranks,
    ndcg_of_slates,
    normalised_entropy,
    rank_of,
    recall_at,
)

Rows = list[tuple[bool, int]]

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)
"""Labels and scores with many ties."""


def columns(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    return np.array([label for label, _ in rows]), np.array([score / 5 for _, score in rows])


def has_both(labels: np.ndarray) -> bool:
    return bool(labels.any() and not labels.all())


@settings(deadline=None)
@given(ROWS)
def test_auc_is_the_share_of_pairs_won_ties_counting_half(rows: Rows) -> None:
    labels, scores = columns(rows)
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(scores[labels], scores[~labels])]
    if pairs:
        assert auc(labels, scores) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(auc(labels, scores))


@settings(deadline=None)
@given(ROWS)
def test_auc_is_scipys_mann_whitney_statistic(rows: Rows) -> None:
    labels, scores = columns(rows)
    if has_both(labels):
        u = stats.mannwhitneyu(scores[labels], scores[~labels], method="asymptotic").statistic
        assert auc(labels, scores) == pytest.approx(u / (labels.sum() * (~labels).sum()))


@settings(deadline=None)
@given(ROWS)
def test_auc_knows_order_alone_and_turns_round_with_it(rows: Rows) -> None:
    labels, scores = columns(rows)
    if has_both(labels):
        assert auc(labels, np.exp(3 * scores)) == pytest.approx(auc(labels, scores))
        assert auc(labels, -scores) == pytest.approx(1 - auc(labels, scores))


@settings(deadline=None)
@given(ROWS)
def test_ranks_are_scipys(rows: Rows) -> None:
    _, scores = columns(rows)
    assert mean_ranks(scores).tolist() == stats.rankdata(scores).tolist()


@settings(deadline=None)
@given(ROWS)
def test_average_precision_steps_once_a_score(rows: Rows) -> None:
    labels, scores = columns(rows)
    if not labels.any():
        assert np.isnan(average_precision(labels, scores))
        return
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = scores >= threshold
        recall = labels[taken].sum() / labels.sum()
        total += (recall - recall_before) * labels[taken].mean()
        recall_before = recall
    assert average_precision(labels, scores) == pytest.approx(total)


def test_one_score_for_all_is_worth_the_base_rate() -> None:
    labels = np.arange(100) < 20
    same = np.full(100, 0.3)
    assert auc(labels, same) == 0.5
    assert average_precision(labels, same) == pytest.approx(0.2)
    assert normalised_entropy(labels, np.full(100, 0.2)) == pytest.approx(1.0)


@settings(deadline=None)
@given(ROWS)
def test_no_constant_beats_the_base_rate(rows: Rows) -> None:
    labels, scores = columns(rows)
    if has_both(labels):
        assert normalised_entropy(labels, np.full(len(labels), scores[0])) >= 1 - 1e-9


def test_certainty_that_is_wrong_costs_much_and_not_everything() -> None:
    found = normalised_entropy(np.array([True, False]), np.array([0.0, 1.0], dtype=np.float32))
    assert 10 < found < 100


def test_calibration_is_predicted_over_happened() -> None:
    assert calibration(np.array([1.0, 0, 0, 1]), np.array([0.9, 0.6, 0.5, 1.0])) == pytest.approx(1.5)
    assert np.isnan(calibration(np.zeros(3), np.ones(3)))


def test_calibration_error_sees_what_sums_hide() -> None:
    labels = np.array([0.0] * 50 + [1.0] * 50)
    wrong_way_round = np.array([0.9] * 50 + [0.1] * 50)
    assert calibration(labels, wrong_way_round) == pytest.approx(1.0)
    assert expected_calibration_error(labels, wrong_way_round) == pytest.approx(0.9)
    assert expected_calibration_error(labels, labels) == 0.0


@settings(deadline=None)
@given(ROWS, st.integers(1, 12))
def test_bins_ascend_and_keep_equal_predictions_together(rows: Rows, n_bins: int) -> None:
    _, scores = columns(rows)
    bins = equal_count_bins(scores, n_bins)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert 0 <= bins.min() <= bins.max() < n_bins
    assert len(set(zip(scores.tolist(), bins.tolist(), strict=True))) == len(set(scores.tolist()))


def dcg_over_all_orders(labels: np.ndarray, scores: np.ndarray, k: int) -> float:
    """The mean DCG@k over all orders in which ties may be broken."""
    orders = [
        order
        for order in itertools.permutations(range(len(labels)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return float(np.mean([sum(labels[r] / np.log2(i + 2) for i, r in enumerate(order[:k])) for order in orders]))


SLATES = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 2)), max_size=12).filter(
    lambda rows: max((sum(slate == s for slate, _, _ in rows) for s in range(3)), default=0) <= 5
)


@settings(deadline=None)
@given(SLATES, st.integers(1, 6))
def test_ndcg_is_the_mean_over_all_ways_to_break_ties(rows: list[tuple[int, bool, int]], k: int) -> None:
    slates = np.array([slate for slate, _, _ in rows], dtype=np.int64)
    labels = np.array([label for _, label, _ in rows], dtype=np.bool_)
    scores = np.array([float(score) for _, _, score in rows])
    values, firsts = ndcg_of_slates(labels, scores, slates, k)
    expected = {}
    for slate in np.unique(slates[labels]).tolist():
        mine = slates == slate
        ideal = sum(1 / np.log2(i + 2) for i in range(min(k, int(labels[mine].sum()))))
        expected[slate] = dcg_over_all_orders(labels[mine], scores[mine], k) / ideal
    found = dict(zip(slates[firsts].tolist(), values.tolist(), strict=True))
    assert found == pytest.approx(expected)


def test_slates_without_a_positive_are_left_out_and_not_counted_as_right() -> None:
    labels = np.array([False, False, True, False])
    values, firsts = ndcg_of_slates(labels, np.array([2.0, 1.0, 1.0, 2.0]), np.array([7, 7, 9, 9]), 10)
    assert values.tolist() == pytest.approx([1 / np.log2(3)])
    assert firsts.tolist() in ([2], [3])


def test_the_place_of_a_post_is_that_of_the_one_total_order() -> None:
    scores, ids = np.array([0.5, np.nan, 0.9, 0.5]), np.array([4, 1, 8, 3])
    assert [rank_of(scores, ids, row) for row in range(4)] == [3, 4, 1, 2]


def test_recall_counts_those_in_time() -> None:
    assert recall_at(np.array([1, 10, 11, 500]), 10) == 0.5
    assert np.isnan(recall_at(np.array([], dtype=np.int64), 10))
