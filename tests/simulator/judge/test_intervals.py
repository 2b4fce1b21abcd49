from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from millrace.base.errors import MillraceError
from millrace.simulator.judge import extras
from millrace.simulator.judge.intervals import as_share, bootstrap_ratio, holm, mean, mean_by, ratio, ratio_by


def test_a_mean_has_students_interval() -> None:
    x = np.array([1.0, 2.0, 4.0, 7.0])
    low, high = stats.t.interval(0.95, 3, loc=x.mean(), scale=stats.sem(x))
    got = mean(x)
    assert (got.value, got.n) == (3.5, 4)
    assert (got.low, got.high) == (pytest.approx(low), pytest.approx(high))


def test_of_nothing_nothing_is_said_and_of_one_person_no_interval() -> None:
    assert math.isnan(mean([]).value)
    assert math.isnan(ratio([0.0], [0.0]).value)
    one = ratio([3.0], [2.0])
    assert one.value == 1.5
    assert math.isnan(one.low)


def test_a_ratio_with_equal_denominators_is_a_mean() -> None:
    x = np.array([1.0, 5.0, 3.0])
    of_sums, of_means = ratio(x, np.full(3, 2.0)), mean(x / 2)
    assert of_sums.value == of_means.value
    assert of_sums.high == pytest.approx(of_means.high)


def test_pages_of_one_person_count_as_one_person() -> None:
    frame = pl.DataFrame({"viewer": [1, 1, 1, 2], "value": [1.0, 1.0, 1.0, 5.0], "n": [1, 1, 1, 1]})
    got = ratio_by(frame, "value", "n")
    assert got.value == 2.0
    assert got.n == 2


def test_means_leave_out_what_is_not_known() -> None:
    frame = pl.DataFrame({"viewer": [1, 2, 3], "value": [1.0, math.nan, None]})
    assert mean_by(frame, "value").value == 1.0


def test_the_bootstrap_agrees_with_the_delta_method_and_with_itself() -> None:
    rng = np.random.default_rng(5)
    pages = rng.integers(1, 20, 400).astype(float)
    value = pages * rng.normal(3, 1, 400)
    drawn, exact = bootstrap_ratio(value, pages, seed=3), ratio(value, pages)
    assert drawn == bootstrap_ratio(value, pages, seed=3)
    assert drawn.value == exact.value
    assert drawn.error == pytest.approx(exact.error, rel=0.1)
    assert drawn.low == pytest.approx(exact.low, abs=exact.error / 3)


def test_a_share_of_independent_people_has_wilsons_interval() -> None:
    got = as_share(mean([1.0] * 30 + [0.0] * 70))
    expected = stats.binomtest(30, 100).proportion_ci(method="wilson")
    assert (got.low, got.high) == (pytest.approx(expected.low, abs=0.003), pytest.approx(expected.high, abs=0.003))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_at_the_end_is_not_certain(value: float) -> None:
    got = as_share(mean([value] * 20))
    assert got.value == value
    assert 0 <= got.low < got.high <= 1
    assert value in {got.low, got.high}
    assert got.high - got.low > 0.1


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(400):
        pages = rng.integers(1, 9, 60).astype(float)
        got = ratio(pages * rng.normal(2.0, 0.7, 60), pages)
        covered += got.low <= 2.0 <= got.high
    assert 0.92 <= covered / 400 <= 0.98


def test_holms_own_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=8))
def test_adjusted_p_values_are_never_smaller_and_keep_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    known = [i for i, value in enumerate(p) if not math.isnan(value)]
    assert [i for i in range(len(p)) if not math.isnan(adjusted[i])] == known
    for i in known:
        assert p[i] <= adjusted[i] <= 1
        assert all(adjusted[i] <= adjusted[j] for j in known if p[i] <= p[j])


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(MillraceError, match=r"pip install -e '.\[simulate\]'"):
        extras.require("no_such_package.part")
