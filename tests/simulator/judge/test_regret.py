from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.simulator.judge.regret import STAGES, page_losses, regret
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import small_run

LEVELS = ("best_all", "best_retrieved", "best_filtered", "best_preranked", "ranked", "served")
# In millionths: a best page that is worth 1e-200 has no share of anything that a float could hold.
values = st.integers(-100_000_000, 100_000_000).map(lambda millionths: millionths / 1e6)


def test_each_stage_has_its_loss() -> None:
    rows = [
        {"page": 0, "viewer": 1, "bound_all": 12.0, **dict(zip(LEVELS, (10.0, 9.0, 8.5, 8.5, 6.0, 5.5), strict=True))},
        {"page": 1, "viewer": 2, "bound_all": 10.0, **dict(zip(LEVELS, (10.0, 8.0, 8.0, 8.0, 7.0, 7.5), strict=True))},
    ]
    got = regret(small_run(regret=rows))
    assert [got.stages[stage].value.value for stage in STAGES] == [1.5, 0.25, 0.0, 1.75, 0.0]
    assert [got.stages[stage].frac.value for stage in STAGES] == [0.15, 0.025, 0.0, 0.175, 0.0]
    assert (got.best.value, got.served.value, got.total.value.value, got.total.frac.value) == (10.0, 6.5, 3.5, 0.35)
    assert got.oracle_gap.value == pytest.approx(2 / 22)
    assert got.n_pages == 2


@settings(max_examples=50, deadline=None)
@given(pages=st.lists(st.tuples(*[values] * 6), min_size=1, max_size=6))
def test_losses_add_up_to_the_total(pages: list[tuple[float, ...]]) -> None:
    rows = [{"page": i, "viewer": i % 2, **dict(zip(LEVELS, page, strict=True))} for i, page in enumerate(pages)]
    frame = page_losses(small_run(regret=rows))
    summed = frame.select(STAGES).to_numpy().sum(axis=1)
    assert np.allclose(summed, frame["total"].to_numpy(), atol=1e-9)
    got = regret(small_run(regret=rows))
    assert sum(loss.value.value for loss in got.stages.values()) == pytest.approx(got.total.value.value, abs=1e-9)


def test_of_pages_that_are_worth_nothing_there_is_no_share() -> None:
    got = regret(small_run(regret=[{"page": 0, "viewer": 1, "best_all": -1.0, "served": -2.0}]))
    assert got.total.value.value == 1.0
    assert math.isnan(got.total.frac.value)


def test_planted_losses_are_found() -> None:
    got = regret(a_run(RunPlan(n_users=80, n_days=3, stage_loss_frac={"ranking": 0.3})))
    ranking = got.stages["ranking"].frac
    assert ranking.low - 0.01 <= 0.3 <= ranking.high + 0.01


def test_nothing_was_held_against_the_oracle() -> None:
    assert math.isnan(regret(small_run()).total.frac.value)
