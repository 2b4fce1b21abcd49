"""What one model gains over another on the same rows."""

import numpy as np
import pytest

from millrace.flywheel import metrics
from millrace.flywheel.paired_gains import PairedGains


def some_rows(n: int = 2_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    truth = np.where(rng.random(n) < 0.5, 0.6, 0.1).astype(np.float32)
    labels = (rng.random(n) < truth).astype(np.float32)[:, None]
    guess = np.full((n, 1), labels.mean(), dtype=np.float32)
    return labels, guess, truth[:, None], np.repeat(np.arange(n // 10), 10)


def test_gains_are_differences_of_the_metrics_with_intervals_around_them() -> None:
    labels, guess, truth, viewers = some_rows()
    gains = PairedGains(labels, guess, truth, viewers, n_resamples=200, seed=1)
    rows, y = np.arange(len(labels)), labels[:, 0] > 0
    entropy, auc = gains.entropy([0], rows), gains.auc([0], rows)
    assert entropy.value == pytest.approx(
        metrics.normalised_entropy(y, guess[:, 0]) - metrics.normalised_entropy(y, truth[:, 0])
    )
    assert auc.value == pytest.approx(metrics.auc(y, truth[:, 0]) - 0.5)
    for gain in (entropy, auc):
        assert 0 < gain.low < gain.value < gain.high


def test_a_model_gains_nothing_over_itself_and_the_other_way_round_it_loses() -> None:
    labels, guess, truth, viewers = some_rows()
    rows = np.arange(len(labels))
    same = PairedGains(labels, truth, truth, viewers, n_resamples=50, seed=1)
    assert same.entropy([0], rows) == (0.0, 0.0, 0.0)
    assert same.auc([0], rows) == (0.0, 0.0, 0.0)
    back = PairedGains(labels, truth, guess, viewers, n_resamples=50, seed=1)
    assert back.entropy([0], rows).high < 0


def test_of_no_heads_nothing_is_known() -> None:
    labels, guess, truth, viewers = some_rows(100)
    gains = PairedGains(labels, guess, truth, viewers, n_resamples=20, seed=1)
    assert np.isnan(gains.entropy([], np.arange(100)).value)
    assert np.isnan(gains.auc([], np.arange(100)).value)


def test_calibration_is_told_of_both() -> None:
    labels, guess, _, viewers = some_rows()
    gains = PairedGains(labels, guess, np.minimum(2 * guess, 1), viewers, n_resamples=50, seed=1)
    before, after = gains.calibration(0, np.arange(len(labels)))
    assert before.value == pytest.approx(1.0, abs=1e-3)
    assert after.value == pytest.approx(2.0, abs=1e-2)
    assert after.low < after.value < after.high
