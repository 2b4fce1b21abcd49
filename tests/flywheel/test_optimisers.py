"""`Optimisers`: one pace for dense weights and tables, bounded steps, and none that is not finite."""

from __future__ import annotations

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="needs millrace[train]")

from millrace.flywheel.optimisers import Optimisers, pace  # noqa: E402 - after the check that torch is there


class Rates(msgspec.Struct, frozen=True):
    learning_rate: float = 0.5
    table_learning_rate: float = 0.25
    n_warm_up: int = 0
    schedule: str = "constant"
    weight_decay: float = 0.0
    max_norm: float = 1.0


def test_the_pace_warms_up_and_falls_to_nothing_or_stays() -> None:
    assert [pace(step, 104, 4) for step in (0, 3, 4, 54, 103)] == pytest.approx([0.25, 1.0, 1.0, 0.5, 0.0], abs=3e-4)
    assert [pace(step, 104, 4, "constant") for step in (0, 54, 103)] == [0.25, 1.0, 1.0]


def test_a_step_moves_both_and_one_that_is_not_finite_neither() -> None:
    dense = torch.nn.Parameter(torch.tensor([1.0]))
    table = torch.nn.Embedding(3, 1, sparse=True)
    torch.nn.init.ones_(table.weight)
    optimisers = Optimisers([dense], table.parameters(), Rates(), n_steps=2)
    rows = table(torch.tensor([1]))
    optimisers.take(0, (dense * float("nan")).sum() + rows.sum())
    assert (dense.item(), table.weight.tolist()) == (1.0, [[1.0], [1.0], [1.0]])
    optimisers.take(1, dense.sum() + table(torch.tensor([1])).sum())
    assert dense.item() == pytest.approx(0.5)
    assert table.weight.tolist() == [[1.0], [pytest.approx(0.75)], [1.0]]


def test_the_steps_that_follow_are_paced() -> None:
    dense, table = torch.nn.Parameter(torch.zeros(1)), torch.nn.Embedding(2, 1, sparse=True)
    optimisers = Optimisers([dense], table.parameters(), Rates(n_warm_up=2), n_steps=10)
    optimisers.take(0, dense.sum() + table(torch.tensor([0])).sum())
    assert [group["lr"] for optimiser in optimisers.by_name.values() for group in optimiser.param_groups] == [
        0.25,
        0.125,
    ]
