"""The bootstrap: exact under weights, seeded, and as wide as it should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.flywheel.bootstrap import ViewerBootstrap, interval, ranking_kernel, ranking_reference
from millrace.flywheel.metrics import auc, average_precision

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40)


@settings(deadline=None)
@given(ROWS, st.integers(0, 1000))
def test_the_kernel_its_reference_and_repeated_rows_agree(rows: list[tuple[bool, int, int]], seed: int) -> None:
    labels = np.array([label for label, _, _ in rows])
    scores = np.array([float(score) for _, score, _ in rows])
    viewers = np.array([viewer for _, _, viewer in rows])
    bootstrap = ViewerBootstrap(viewers, 3, seed)
    found = bootstrap.ranking(labels, scores, np.arange(len(rows)))
    order = np.argsort(-scores, kind="stable")
    ends = np.append(scores[order][1:] != scores[order][:-1], [True])
    codes = bootstrap.codes[order]
    np.testing.assert_allclose(found, ranking_kernel(labels[order], ends, codes, bootstrap.weights))
    np.testing.assert_allclose(found, ranking_reference(labels[order], ends, codes, bootstrap.weights))
    for result, weights in zip(found, bootstrap.weights, strict=True):
        # A row of weight 3 is three rows.
        again = np.repeat(np.arange(len(rows)), weights[bootstrap.codes])
        expected = [auc(labels[again], scores[again]), average_precision(labels[again], scores[again])]
        np.testing.assert_allclose(result, expected)


def test_sums_and_ratios_weigh_rows_by_their_viewer() -> None:
    viewers = np.array([5, 5, 9])
    bootstrap = ViewerBootstrap(viewers, 4, seed=3)
    column, rows = np.array([1.0, 2.0, 10.0]), np.arange(3)
    expected = bootstrap.weights @ np.array([3.0, 10.0])
    assert bootstrap.sums(column, rows).tolist() == expected.tolist()
    assert bootstrap.sums(column[1:], rows[1:]).tolist() == (bootstrap.weights @ np.array([2.0, 10.0])).tolist()


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    viewers = np.arange(50)
    first, again, other = (ViewerBootstrap(viewers, 5, seed).weights for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_intervals_by_viewer_are_wider_where_viewers_differ() -> None:
    rng = np.random.default_rng(0)
    n_viewers, n_each = 60, 40
    viewers = np.repeat(np.arange(n_viewers), n_each)
    labels = rng.random(len(viewers)) < np.repeat(rng.choice([0.05, 0.6], n_viewers), n_each)
    column, ones, rows = labels.astype(float), np.ones(len(viewers)), np.arange(len(viewers))
    by_viewer = interval(0, ViewerBootstrap(viewers, 300).ratio(column, ones, rows))
    by_row = interval(0, ViewerBootstrap(rows, 300).ratio(column, ones, rows))
    assert by_viewer.high - by_viewer.low > 3 * (by_row.high - by_row.low)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    n_held = 0
    for trial in range(100):
        viewers = np.repeat(np.arange(80), 5)
        labels = rng.random(len(viewers)) < 0.3
        scores = rng.normal(size=len(viewers))
        found = ViewerBootstrap(viewers, 200, trial).ranking(labels, scores, np.arange(len(viewers)))
        held = interval(auc(labels, scores), found[:, 0])
        n_held += held.low <= 0.5 <= held.high
    assert 88 <= n_held <= 100


def test_without_resamples_there_are_no_bounds() -> None:
    found = interval(0.7, np.empty(0))
    assert found.value == 0.7
    assert np.isnan(found.low)
    assert np.isnan(found.high)


@pytest.mark.parametrize("n_missing", [5, 50])
def test_a_metric_that_most_resamples_have_keeps_its_interval(n_missing: int) -> None:
    resampled = np.linspace(0, 1, 100)
    resampled[:n_missing] = np.nan
    assert np.isfinite(interval(0.5, resampled).low) == (n_missing == 5)
