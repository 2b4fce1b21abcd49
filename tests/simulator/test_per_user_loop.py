"""The baseline of `benchmarks/bench_world.py` is the same law as the engine: same draws, same deeds, same dwell."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.simulator.config import MechanismName
from millrace.simulator.mechanisms import MECHANISMS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench_world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_world")


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_plain_loop_does_what_the_engine_does(bench_world: Any, mechanism: MechanismName) -> None:
    world = bench_world.a_world(mechanism, size="tiny", n_users=60, history_ms=9 * 3_600_000)
    n_different, n_looks = bench_world.differences(world, np.arange(8), n_rounds=3)
    assert n_looks > 200
    assert n_different == 0


def test_the_comparison_sees_another_law(bench_world: Any) -> None:
    world = bench_world.a_world("gate", size="tiny", n_users=60, history_ms=9 * 3_600_000)
    world.encounters.mechanism = type(world.mechanism)()
    world.encounters.mechanism._friendly = 2 * world.encounters.mechanism._friendly
    n_different, _ = bench_world.differences(world, np.arange(8), n_rounds=2)
    assert n_different > 0
