"""The newest share of the pages is held out: half to choose by, half to measure on, and nothing is both."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.app.held_out import held_out
from millrace.testing.sample_builders import planted_samples


@pytest.mark.parametrize("n", [3, 20, 99, 1_000])
@pytest.mark.parametrize("frac", [0.1, 0.4])
def test_a_training_holds_out_exactly_what_is_chosen_by(n: int, frac: float) -> None:
    samples = planted_samples(n, n_rows=1, n_history=1)
    samples = samples.take(np.random.default_rng(1).permutation(n))
    parts = held_out(samples, frac)
    n_half = max(int(n * frac / 2), 1)
    assert len(parts.newest) == len(parts.chosen_by) == n_half
    times = samples.now_ms
    assert times[parts.older].max() < times[parts.newest].min()
    assert times[parts.chosen_by].tolist() == sorted(times[parts.older].tolist())[-n_half:]
    assert int(len(parts.older) * parts.frac) == n_half
