"""Calibration finds what is off and stays where nothing is; a gate opens on gains alone, and not by chance."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.flywheel.metrics import cross_entropies
from millrace.flywheel.near_line.calibrator import MAX_SHIFT, Calibrator
from millrace.flywheel.near_line.gain import Gain
from millrace.flywheel.platt import fit_platt, logit, sigmoid

ALL = np.ones(2, dtype=np.bool_)


def drawn(seed: int, n: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions of two heads, the first of which says ``factor`` times the odds, and what happened."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-2, 1, (n, 2))
    labels = (rng.random((n, 2)) < sigmoid(z)).astype(np.float32)
    z[:, 0] += np.log(factor)
    return sigmoid(z).astype(np.float32), labels


def test_it_is_platt_scaling() -> None:
    deep, labels = drawn(1, 4_000, 3.0)
    calibrator = Calibrator(2, 4_000)
    calibrator.add(deep, labels)
    for _ in range(10):
        calibrator.fit()
    for head in range(2):
        expected = fit_platt(logit(deep[:, head]), labels[:, head])
        np.testing.assert_allclose([calibrator.slopes[head], calibrator.shifts[head]], expected, atol=2e-3)
    assert abs(calibrator.shifts[0] + np.log(3)) < 0.25


def test_it_begins_as_the_offline_calibration_is_bounded_and_forgets() -> None:
    calibrator = Calibrator(2, 500)
    deep, labels = drawn(2, 500, 1.0)
    assert (calibrator.probs(deep, ALL) - deep).__abs__().max() < 1e-6
    calibrator.add(np.full((500, 2), 1e-4, np.float32), np.ones((500, 2), np.float32))
    for _ in range(20):
        calibrator.fit()
    assert (np.abs(calibrator.shifts) <= MAX_SHIFT).all()
    calibrator.add(deep, labels)
    for _ in range(20):
        calibrator.fit()
    assert (np.abs(calibrator.shifts) < 0.6).all()


def gain_over(seed: int, factor: float, n_pages: int = 300) -> Gain:
    """Return the gain of undoing a factor, page by page of ten rows."""
    gain = Gain(2, z=3.0, min_positives=30, n_pages=2_000)
    for page in range(n_pages):
        deep, labels = drawn(1_000 * seed + page, 10, factor)
        better = deep.copy()
        better[:, 0] = sigmoid(logit(deep[:, 0]) - np.log(3))
        old, new = (cross_entropies(labels > 0.5, probs) for probs in (deep, better))
        gain.add(old, new, labels, np.full(10, page))
    return gain


def test_a_gate_opens_on_a_gain_for_its_head_alone() -> None:
    gain = gain_over(1, 3.0)
    assert gain.is_open.tolist() == [True, False]
    assert gain.lower_bound()[0] > 0
    assert gain.gain[1] == 0


def test_a_gate_closes_when_the_gain_is_gone() -> None:
    gain = gain_over(1, 3.0)
    for page in range(600):
        deep, labels = drawn(90_000 + page, 10, 1.0)  # the ranker was mended: undoing a factor does harm now
        better = deep.copy()
        better[:, 0] = sigmoid(logit(deep[:, 0]) - np.log(3))
        old, new = (cross_entropies(labels > 0.5, probs) for probs in (deep, better))
        gain.add(old, new, labels, np.full(10, page))
    assert gain.is_open.tolist() == [False, False]


@pytest.mark.slow
def test_noise_opens_no_gate() -> None:
    opened = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        gain = Gain(20, z=3.0, min_positives=1, n_pages=2_000)
        for page in range(150):
            gain.add(rng.normal(0, 1, (5, 20)), np.zeros((5, 20)), np.ones((5, 20)), np.full(5, page))
            opened += int(gain.is_open.any() and page >= 20)
    assert opened / (40 * 130) < 0.2  # of twenty heads any one, at any of many looks


def test_too_few_actions_open_none() -> None:
    gain = Gain(1, z=3.0, min_positives=30, n_pages=2_000)
    for page in range(29):
        gain.add(np.full((1, 1), 9.0), np.zeros((1, 1)), np.ones((1, 1)), np.array([page]))
    assert not gain.is_open[0]
    for page in range(4):  # they fade a little
        gain.add(np.full((1, 1), 9.0), np.zeros((1, 1)), np.ones((1, 1)), np.array([page]))
    assert gain.is_open[0]
