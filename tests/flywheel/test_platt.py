from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.flywheel.platt import Platt, fit_platt, logit, sigmoid


def test_a_slope_and_a_shift_that_were_planted_are_found() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200_000)
    labels = (rng.random(len(x)) < sigmoid(0.5 * x - 2.0)).astype(np.float64)
    found = fit_platt(x, labels)
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.shift == pytest.approx(-2.0, abs=0.03)
    assert found(x).mean() == pytest.approx(labels.mean(), rel=1e-3)


def test_without_rows_nothing_changes_and_a_start_is_kept() -> None:
    none = np.empty(0)
    assert fit_platt(none, none) == Platt(1.0, 0.0)
    assert fit_platt(none, none, start=(0.0, -3.0)) == Platt(0.0, -3.0)


def test_a_row_of_weight_two_is_two_rows() -> None:
    x, y = np.array([-1.0, 0.5, 2.0]), np.array([0.0, 1.0, 1.0])
    twice = fit_platt(np.repeat(x, 2), np.repeat(y, 2))
    assert fit_platt(x, y, np.full(3, 2.0)) == pytest.approx(twice)


@given(st.lists(st.floats(1e-5, 1 - 1e-5), min_size=1, max_size=20))
def test_log_odds_and_back(probabilities: list[float]) -> None:
    p = np.array(probabilities)
    np.testing.assert_allclose(sigmoid(logit(p)), p, rtol=1e-9)


def test_certain_probabilities_have_finite_log_odds() -> None:
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert sigmoid(np.array([-1e4, 1e4])).tolist() == [0.0, 1.0]
