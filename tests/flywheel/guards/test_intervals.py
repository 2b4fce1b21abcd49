"""Live metrics are the exact ones, and their errors are those that resampling viewers finds."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.flywheel.guards.drift import DriftWatch, levels_of, stability_index
from millrace.flywheel.guards.intervals import auc_difference, live_auc, live_calibration
from millrace.flywheel.metrics import auc
from millrace.flywheel.platt import sigmoid


def drawn(seed: int, n_viewers: int = 150, each: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what happened, two predictions, and viewers who differ from each other."""
    rng = np.random.default_rng(seed)
    viewers = np.repeat(np.arange(n_viewers), each)
    z = rng.normal(-1, 1, len(viewers)) + rng.normal(0, 1, n_viewers)[viewers]
    is_positive = rng.random(len(z)) < sigmoid(z)
    one, other = (sigmoid(z + rng.normal(0, s, len(z))) for s in (0.5, 2.0))
    return is_positive, one, other, viewers


def test_the_area_is_exact_with_ties() -> None:
    is_positive = np.array([True, False, True, False, False])
    scores = np.array([0.9, 0.5, 0.5, 0.1, 0.9])
    found = live_auc(is_positive, scores, np.arange(5))
    assert found.value == auc(is_positive, scores)
    assert found.error > 0


@pytest.mark.slow
def test_errors_are_those_of_many_worlds() -> None:
    aucs, differences, ratios = [], [], []
    for seed in range(80):
        is_positive, one, other, viewers = drawn(seed)
        aucs.append(live_auc(is_positive, one, viewers))
        differences.append(auc_difference(is_positive, one, other, viewers))
        ratios.append(live_calibration(is_positive.astype(float), one, viewers))
    for found in (aucs, differences, ratios):
        said, seen = np.mean([e.error for e in found]), np.std([e.value for e in found])
        assert 0.8 < said / seen < 1.25


def test_rows_of_one_viewer_are_one_observation() -> None:
    is_positive, one, _, viewers = drawn(1)
    alone = live_auc(is_positive, one, viewers)
    four = live_auc(np.tile(is_positive, 4), np.tile(one, 4), np.tile(viewers, 4))
    assert np.isclose(four.error, alone.error, rtol=0.02)
    assert live_auc(is_positive, one, np.zeros(len(one), np.int64)).error == np.inf


def test_calibration_is_a_ratio() -> None:
    labels, viewers = np.array([1.0, 0, 0, 0]), np.arange(4)
    assert np.isclose(np.exp(live_calibration(labels, np.full(4, 0.75), viewers).value), 3.0)


def test_the_index_is_nought_by_chance_and_large_when_all_has_moved() -> None:
    rng = np.random.default_rng(0)

    def counted(z: np.ndarray) -> np.ndarray:
        return np.bincount(levels_of(sigmoid(z).astype(np.float32)), minlength=256)

    reference = counted(rng.normal(-2, 1, 4_000))
    assert stability_index(reference, counted(rng.normal(-2, 1, 2_000))) < 0.02
    assert 0.1 < stability_index(reference, counted(rng.normal(-1.6, 1, 2_000))) < 0.3
    assert stability_index(reference, counted(rng.normal(4, 1, 2_000))) > 3
    assert stability_index(reference, reference * 0) == 0


def test_a_watch_compares_the_newest_rows_with_the_first_and_lets_the_others_go() -> None:
    rng, watch = np.random.default_rng(0), DriftWatch(2, 400, 200)

    def rows(low: int, high: int) -> np.ndarray:
        return rng.integers([100, low], [140, high], (50, 2)).astype(np.uint8)

    for _ in range(8):
        watch.add(rows(100, 140))
    assert not watch.is_ready
    assert watch.psi().tolist() == [0, 0]
    for _ in range(8):
        watch.add(rows(0, 1))
    same, moved = watch.psi()
    assert same < 0.1
    assert moved > 3
    for _ in range(16):
        watch.add(rows(100, 140))
    assert watch.psi().max() < 0.1
    after = DriftWatch(2, 400, 200)
    after.begin_with(watch)
    for _ in range(8):
        after.add(rows(0, 1))
    assert after.psi()[1] > 3
