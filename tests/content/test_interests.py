"""Interests: groups of liked vectors."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.content.interests import interests_of, interests_of_reference


def unit(*rows: list[float]) -> np.ndarray:
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ones(n: int) -> np.ndarray:
    return np.ones(n, dtype=np.float32)


def test_alike_vectors_share_a_group_and_others_begin_one() -> None:
    found = interests_of(unit([1, 0], [0, 1], [1, 0.1]), ones(3), 4, 0.5)
    assert np.allclose(found, unit([1 + 1 / np.sqrt(1.01), 0.1 / np.sqrt(1.01)], [0, 1]), atol=1e-5)


def test_when_all_groups_are_taken_a_vector_joins_the_nearest() -> None:
    found = interests_of(unit([1, 0], [0, 1]), ones(2), 1, 0.5)
    assert np.allclose(found, unit([1, 1]), atol=1e-6)


def test_weights_decide_where_a_group_points() -> None:
    found = interests_of(unit([1, 0], [0, 1]), np.array([3, 1], dtype=np.float32), 1, 0.5)
    assert np.allclose(found, unit([3, 1]), atol=1e-6)


def test_nothing_liked_is_no_interest() -> None:
    assert interests_of(np.empty((0, 64), dtype=np.float32), ones(0), 4, 0.3).shape == (0, 64)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(1, 5))
def test_the_kernel_groups_as_numpy_does(seed: int, n: int, max_interests: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = rng.uniform(0.1, 1.0, n).astype(np.float32)
    ours = interests_of(vectors, weights, max_interests, 0.3)
    assert np.allclose(ours, interests_of_reference(vectors, weights, max_interests, 0.3), atol=1e-4)
