from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from millrace.base.errors import MillraceError
from millrace.simulator.judge.aa import aa_p_values, split_p_values, uniformity
from millrace.testing.run_records import RunPlan, a_run

RUN = a_run(RunPlan(n_users=300, n_days=1, page_limit=5))


@pytest.mark.parametrize("per_page", [False, True])
def test_where_nothing_differs_p_values_are_uniform(per_page: bool) -> None:
    got = uniformity(aa_p_values(RUN, per_page=per_page, n_splits=1000, seed=11))
    assert got.n == 1000
    assert got.p_value > 0.01
    assert 0.03 < got.rejected_frac < 0.07


def test_splits_are_tested_as_scipy_does() -> None:
    x = np.random.default_rng(2).gamma(1.0, 5.0, 30)
    got = split_p_values(x, n_splits=4, seed=9)
    tossed = np.random.default_rng(9).integers(0, 2, size=(4, 30), dtype=np.int8).astype(bool)
    expected = [stats.ttest_ind(x[arm], x[~arm], equal_var=False).pvalue for arm in tossed]
    assert got == pytest.approx(expected)


def test_the_same_seed_tosses_alike_whatever_the_number() -> None:
    assert aa_p_values(RUN, n_splits=7, seed=3) == pytest.approx(aa_p_values(RUN, n_splits=9, seed=3)[:7])
    assert (aa_p_values(RUN, n_splits=7, seed=3) != aa_p_values(RUN, n_splits=7, seed=4)).any()


def test_p_values_that_are_not_uniform_are_found_out() -> None:
    got = uniformity(np.linspace(0, 1, 500) ** 2)
    assert got.p_value < 1e-6
    assert uniformity(np.array([np.nan])).n == 0


def test_people_who_do_not_differ_give_p_of_one() -> None:
    assert (split_p_values(np.full(20, 3.0), n_splits=5, seed=1) == 1.0).all()


def test_too_few_people() -> None:
    with pytest.raises(MillraceError, match="too few"):
        split_p_values(np.ones(3), n_splits=2, seed=1)
