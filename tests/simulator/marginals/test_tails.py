from __future__ import annotations

import numpy as np
import pytest
from scipy.special import zeta

from millrace.simulator.marginals.tails import fit_tail, hurwitz, tail_of


def power_law(alpha: float, x_min: int, n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return draws from the discrete power law, by inversion of its table."""
    x = np.arange(x_min, 200_000)
    cumulative = np.cumsum(x**-alpha)
    u = np.random.default_rng(5).random(n) * cumulative[-1]
    return x[np.searchsorted(cumulative, u)]


@pytest.mark.parametrize(("alpha", "x_min"), [(1.8, 1), (2.5, 1), (2.5, 6), (3.4, 3)])
def test_a_planted_exponent_is_found(alpha: float, x_min: int) -> None:
    tail = fit_tail(power_law(alpha, x_min, 20_000), x_min)
    assert tail is not None
    assert tail.alpha == pytest.approx(alpha, abs=0.04)
    assert tail.n == 20_000
    assert tail.distance < 0.01


def test_where_a_planted_tail_begins_is_found() -> None:
    body = np.random.default_rng(2).integers(1, 20, 20_000)
    tail = fit_tail(np.concatenate([body, power_law(2.4, 20, 10_000)]))
    assert tail is not None
    assert 18 <= tail.x_min <= 30
    assert tail.alpha == pytest.approx(2.4, abs=0.08)


def test_too_few_values_and_values_all_alike_have_no_tail() -> None:
    assert fit_tail(np.arange(1, 40)) is None
    assert fit_tail(np.full(500, 7)) is None
    assert fit_tail(np.zeros(500)) is None
    assert tail_of(np.zeros(0)) == {}


def test_the_largest_tenth_gives_an_exponent_of_its_own() -> None:
    found = tail_of(power_law(2.2, 1, 20_000))
    assert found["exponent of top 10%"] == pytest.approx(2.2, abs=0.1)
    assert found["tail exponent"] == pytest.approx(2.2, abs=0.1)


def test_the_zeta_function_is_that_of_scipy() -> None:
    s, q = np.meshgrid([1.02, 1.5, 2.5, 8.0], [1.0, 2.0, 7.0, 1000.0])
    assert hurwitz(s, q) == pytest.approx(zeta(s, q), rel=1e-9)
