from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.simulator.draws import Draws, Purpose

N = 20_000


def test_a_draw_depends_on_its_keys_alone_and_not_on_its_neighbours() -> None:
    draws = Draws(3)
    together = draws.uniform(Purpose.DWELL, np.arange(50), 7)
    alone = [draws.uniform(Purpose.DWELL, k, 7)[0] for k in range(50)]
    np.testing.assert_array_equal(together, alone)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**63), key=st.integers(0, 2**62), other=st.integers(1, 1000))
def test_another_seed_purpose_key_or_order_of_keys_gives_another_draw(seed: int, key: int, other: int) -> None:
    bits = Draws(seed).bits(Purpose.ACTION, key, key + other)[0]
    assert bits == Draws(seed).bits(Purpose.ACTION, key, key + other)[0]
    assert bits != Draws(seed + 1).bits(Purpose.ACTION, key, key + other)[0]
    assert bits != Draws(seed).bits(Purpose.DWELL, key, key + other)[0]
    assert bits != Draws(seed).bits(Purpose.ACTION, key + other, key)[0]


def test_keys_broadcast_against_each_other() -> None:
    draws = Draws(1)
    table = draws.uniform(Purpose.ACTION, np.arange(3)[:, None], np.arange(4)[None, :])
    assert table.shape == (3, 4)
    assert table[2, 1] == draws.uniform(Purpose.ACTION, 2, 1)[0]


def test_uniforms_are_uniform_also_over_consecutive_keys() -> None:
    u = Draws(5).uniform(Purpose.POST_TIME, np.arange(N))
    counts = np.bincount((u * 20).astype(int), minlength=20)
    chi_squared = ((counts - N / 20) ** 2 / (N / 20)).sum()
    assert chi_squared < 50  # 19 degrees of freedom
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.03


def test_normals_have_mean_zero_and_variance_one() -> None:
    z = Draws(5).normal(Purpose.DWELL, np.arange(N))
    assert abs(z.mean()) < 0.03
    assert abs(z.var() - 1) < 0.05


def test_poisson_counts_have_the_mean_asked_for_row_by_row() -> None:
    mean = np.repeat([0.0, 0.3, 4.0], N)
    counts = Draws(5).poisson(mean, Purpose.N_POSTS, np.arange(3 * N)).reshape(3, N)
    np.testing.assert_allclose(counts.mean(axis=1), [0.0, 0.3, 4.0], atol=0.06)
    np.testing.assert_allclose(counts.var(axis=1), [0.0, 0.3, 4.0], atol=0.2)


def test_no_rows_give_no_draws() -> None:
    draws = Draws(1)
    empty = np.empty(0, dtype=np.int64)
    assert draws.uniform(Purpose.ACTION, empty, 3).shape == (0,)
    assert draws.poisson(np.empty(0), Purpose.N_POSTS, empty).shape == (0,)
