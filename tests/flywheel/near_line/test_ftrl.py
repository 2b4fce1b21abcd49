"""FTRL: the kernel is the reference, late actions are made good, evidence ages, and nothing is learned of nothing."""

from __future__ import annotations

import numpy as np

from millrace.flywheel.near_line.ftrl import (
    FtrlSettings,
    FtrlTable,
    fast_probs,
    ftrl_arrays,
    ftrl_from,
    ftrl_step,
    ftrl_step_reference,
    ftrl_table,
)

SETTINGS = FtrlSettings(0.1, 1.0, 0.1, 1.0, 24.0)
ALL = np.ones(3, dtype=np.bool_)


def stepped(table: FtrlTable, rows: list[tuple[list[int], list[float], float]]) -> FtrlTable:
    for slots, gradients, now_h in rows:
        ftrl_step(table, SETTINGS, np.array(slots, np.int32), np.array(gradients, np.float32), now_h)
    return table


def test_the_kernel_does_what_the_reference_does() -> None:
    rng = np.random.default_rng(3)
    one, other = ftrl_table(16, 3), ftrl_table(16, 3)
    for step in range(300):
        slots = rng.permutation(16)[:4].astype(np.int32)
        gradients = np.where(rng.random(3) < 0.3, 0, rng.normal(0, 1, 3)).astype(np.float32)
        for learn, table in ((ftrl_step, one), (ftrl_step_reference, other)):
            learn(table, SETTINGS, slots, gradients, step / 10)
    for name, array in ftrl_arrays(one).items():
        np.testing.assert_allclose(array, ftrl_arrays(other)[name], rtol=2e-4, atol=2e-5, err_msg=name)
    assert (one.weights != 0).any()


def test_a_first_step_is_mcmahans() -> None:
    # z = g, n = g^2, w = -(z - l1) / ((beta + |g|) / alpha + l2) = -(0.5 - 0.1) / ((1 + 0.5) / 0.1 + 1)
    table = stepped(ftrl_table(4, 3), [([2], [0.5, 0.0, 0.05], 0.0)])
    np.testing.assert_allclose(table.weights[2], [-0.4 / 16, 0.0, 0.0], rtol=1e-6)  # 0.05 is below l1
    assert (table.weights[[0, 1, 3]] == 0).all()


def test_what_happens_again_and_again_is_learned_and_a_head_that_is_not_learned_stays() -> None:
    table, base = ftrl_table(8, 3), np.full((1, 3), 0.1, dtype=np.float32)
    slots = np.array([[1, 5]], dtype=np.int32)
    for _ in range(300):
        p = fast_probs(table, slots, base, ALL)[0]
        ftrl_step(table, SETTINGS, slots[0], (p - np.array([1, 0, 0])).astype(np.float32) * [1, 1, 0], 0.0)
    p = fast_probs(table, slots, base, ALL)[0]
    assert p[0] > 0.5
    assert p[1] < 0.05
    assert p[2] == np.float32(0.1)
    assert (fast_probs(table, slots, base, np.zeros(3, np.bool_)) == base).all()


def test_evidence_ages() -> None:
    young = stepped(ftrl_table(4, 3), [([1], [1.0, 1.0, 1.0], 0.0), ([1], [-1.0, 0.0, 0.0], 0.0)])
    old = stepped(ftrl_table(4, 3), [([1], [1.0, 1.0, 1.0], 0.0), ([1], [-1.0, 0.0, 0.0], 240.0)])
    assert old.weights[1, 0] > young.weights[1, 0] > -0.01  # what it said ten half-lives ago hardly counts
    assert old.weights[1, 1] == 0.0 > young.weights[1, 1]


def test_it_is_kept_whole() -> None:
    table = stepped(ftrl_table(4, 3), [([1, 2], [1.0, -1.0, 0.5], 1.0)])
    kept = ftrl_from(ftrl_arrays(table))
    assert all(np.array_equal(kept_array, array) for kept_array, array in zip(kept[:4], table[:4], strict=True))
