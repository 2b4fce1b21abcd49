"""Maximal marginal relevance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.mixer.rerankers.mmr import marginal_relevance, marginal_relevance_reference


def test_a_hand_worked_choice() -> None:
    # Gains after the first, lambda 0.5: 0.45 - 0.4 = 0.05 and 0.3 - 0 = 0.3; then the second is all that is left.
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    quality = np.array([1.0, 0.9, 0.6])
    has = np.ones(3, dtype=np.bool_)
    assert marginal_relevance(quality, vectors, has, 0.0, 0.5, 3).tolist() == [0, 2, 1]
    assert marginal_relevance(quality, vectors, has, 0.0, 1.0, 3).tolist() == [0, 1, 2]
    assert marginal_relevance(quality, vectors, has, 0.0, 0.5, 2).tolist() == [0, 2]


def test_equals_go_in_the_order_of_the_pool() -> None:
    vectors, has = np.zeros((4, 2), dtype=np.float32), np.zeros(4, dtype=np.bool_)
    assert marginal_relevance(np.ones(4), vectors, has, 0.0, 0.7, 9).tolist() == [0, 1, 2, 3]


def test_who_is_opposite_to_everything_taken_gains_by_it() -> None:
    vectors = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    has = np.ones(3, dtype=np.bool_)
    assert marginal_relevance(np.array([1.0, 0.5, 0.4]), vectors, has, 0.0, 0.5, 3).tolist() == [0, 2, 1]


@given(
    n=st.integers(0, 60),
    d=st.integers(1, 20),
    k=st.integers(1, 30),
    trade=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=100, deadline=None)
def test_every_choice_has_the_largest_gain(n: int, d: int, k: int, trade: float, missing: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, d))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    has = rng.random(n) >= missing
    vectors[~has] = 0
    quality = np.sort(rng.random(n))[::-1].copy()
    chosen = marginal_relevance(quality, vectors, has, 0.1, trade, k).tolist()
    assert len(set(chosen)) == len(chosen) == min(n, k)
    units = vectors.astype(np.float64)
    cosines = np.where(has[:, None] & has[None, :], units @ units.T, 0.1)
    for step, row in enumerate(chosen):
        nearest = cosines[chosen[:step]].max(axis=0) if step else np.zeros(n)
        gains = trade * quality - (1 - trade) * nearest
        gains[chosen[:step]] = -np.inf
        assert gains[row] == pytest.approx(gains.max(), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_the_kernel_agrees_with_its_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((150, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    has = rng.random(150) < 0.9
    arguments = (np.sort(rng.random(150))[::-1].copy(), vectors, has, 0.02, 0.7, 50)
    assert marginal_relevance(*arguments).tolist() == marginal_relevance_reference(*arguments).tolist()
