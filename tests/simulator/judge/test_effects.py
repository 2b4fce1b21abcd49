from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from millrace.simulator.judge.effects import apart, paired_effect, paired_ratio_effect, split_effect, split_ratio_effect
from millrace.simulator.judge.intervals import mean

RNG = np.random.default_rng(4)
X = RNG.gamma(2.0, 3.0, 50)
Y = X * 1.1 + RNG.normal(0, 0.3, 50)
Z = RNG.gamma(2.0, 4.0, 70)


def test_pairs_are_tested_as_scipy_does() -> None:
    got = paired_effect(X, Y)
    assert got.p_value == pytest.approx(stats.ttest_rel(Y, X).pvalue)
    assert got.difference.value == pytest.approx((Y - X).mean())
    assert got.relative.low < 0.1 < got.relative.high
    assert got.n == 50


def test_groups_are_tested_as_scipy_does() -> None:
    got = split_effect(X, Z)
    assert got.p_value == pytest.approx(stats.ttest_ind(Z, X, equal_var=False).pvalue)
    assert got.relative.value == pytest.approx(Z.mean() / X.mean() - 1)
    assert got.n == 120


def test_the_delta_methods_error_is_that_of_many_draws() -> None:
    rng = np.random.default_rng(6)
    drawn = [split_effect(rng.gamma(2.0, 3.0, 50), rng.gamma(2.0, 4.0, 70)).relative.value for _ in range(2000)]
    errors = [split_effect(rng.gamma(2.0, 3.0, 50), rng.gamma(2.0, 4.0, 70)).relative.error for _ in range(200)]
    assert float(np.mean(errors)) == pytest.approx(float(np.std(drawn)), rel=0.1)


def test_a_doubled_value_per_page_is_a_relative_effect_of_one() -> None:
    pages = RNG.integers(1, 9, 50).astype(float)
    got = paired_ratio_effect(X, pages, 2 * X, pages)
    assert got.relative.value == 1.0
    assert got.relative.error == pytest.approx(0.0, abs=1e-12)
    assert split_ratio_effect(X, pages, 2 * X, pages).relative.value == 1.0


def test_worse_than_bad_is_negative() -> None:
    assert paired_effect([-1.0, -3.0], [-2.0, -4.0]).relative.value == -0.5
    assert split_effect([-1.0, -3.0], [-2.0, -4.0]).relative.value == -0.5
    assert split_effect([-1.0, -3.0], [1.0, 0.0]).relative.value == 1.25


def test_equal_worlds_do_not_differ() -> None:
    got = paired_effect(X, X)
    assert (got.p_value, got.relative.value) == (1.0, 0.0)


def test_a_difference_without_any_error_is_certain() -> None:
    assert paired_effect([1.0, 1.0], [2.0, 2.0]).p_value == 0.0


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [2.0])])
def test_too_few_people_tell_nothing(before: list[float], after: list[float]) -> None:
    for got in (paired_effect(before, after), split_effect(before, after)):
        assert math.isnan(got.p_value)


def test_estimates_of_different_draws_are_subtracted() -> None:
    difference, p = apart(mean(X), mean(Z))
    assert p == pytest.approx(stats.ttest_ind(X, Z, equal_var=False).pvalue)
    assert difference.value == pytest.approx(X.mean() - Z.mean())
    assert math.isnan(apart(mean([]), mean(Z))[1])
