from __future__ import annotations

from typing import Any

import pytest

from millrace.simulator.judge.stages import blame
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import small_run

WORLD: dict[str, Any] = {"n_users": 80, "n_days": 2, "page_limit": 10, "held_frac": 0.5}
HEALTHY = a_run(RunPlan(**WORLD))


@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"stage_loss_frac": {"ranking": 0.25}}, "ranking"),
        ({"stage_loss_frac": {"retrieval": 0.2}}, "retrieval"),
        ({"stage_loss_frac": {"re-ranking": 0.1}}, "re-ranking"),
        ({"stage_loss_frac": {"filters": 0.1}}, "filters"),
        ({"stage_loss_frac": {"pre-ranking": 0.1}}, "pre-ranking"),
        ({"broken_per_page": {"blocked": 0.1}}, "filters: let through blocked"),
        ({"broken_per_page": {"own": 0.2, "deleted": 0.05}}, "filters: let through own"),
        ({}, None),
    ],
)
def test_the_broken_stage_is_named(fault: dict[str, Any], expected: str | None, twins: bool) -> None:
    got = blame(a_run(RunPlan(**WORLD, feed_seed=1, **fault)), HEALTHY, twins=twins)
    assert got.stage == expected
    assert len(got.stages) == 5
    assert len(got.rules) == 5


def test_of_two_broken_stages_the_worse_is_named() -> None:
    got = blame(a_run(RunPlan(**WORLD, feed_seed=1, stage_loss_frac={"ranking": 0.2, "retrieval": 0.3})), HEALTHY)
    assert got.stage == "retrieval"
    assert [change.name for change in got.stages if change.is_worse] == ["retrieval", "ranking"]


def test_a_stage_that_does_better_is_not_blamed() -> None:
    assert blame(a_run(RunPlan(**WORLD, feed_seed=1, stage_loss_frac={"ranking": 0.02})), HEALTHY).stage is None


def test_without_evidence_nobody_is_blamed() -> None:
    assert blame(small_run(), small_run()).stage is None
    assert blame(small_run(), HEALTHY, twins=True).stage is None
