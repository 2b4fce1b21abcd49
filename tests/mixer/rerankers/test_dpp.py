"""Greedy DPP: the fast kernel chooses what Chen et al.'s algorithm chooses, and what it chooses makes sense."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.mixer.rerankers.dpp import choose_by_dpp, neutral_cosine, qualities
from millrace.mixer.rerankers.dpp_kernel import LEAST_VARIANCE, greedy_map, greedy_map_reference
from millrace.mixer.rerankers.dpp_lanes import LANES

Array = npt.NDArray[np.generic]


def a_pool(shape: str, n: int, d: int, seed: int) -> tuple[Array, Array]:
    """Return scores, best first, and unit vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, d))
    if shape == "clustered":
        vectors = 0.3 * vectors + rng.standard_normal((7, d))[rng.integers(0, 7, n)]
    elif shape == "copies":
        vectors = vectors[rng.integers(0, max(n // 2, 1), n)]
    elif shape == "near_copies":
        vectors = vectors[rng.integers(0, max(n // 3, 1), n)] + 1e-3 * vectors
    elif shape == "low_rank":
        vectors = rng.standard_normal((n, 5)) @ rng.standard_normal((5, d)) + 0.02 * vectors
    scores = rng.lognormal(0, 1, n) if shape != "flat" else 1 + 0.001 * rng.random(n)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.sort(scores)[::-1].astype(np.float32), vectors.astype(np.float32)


def weights_of(scores: Array, theta: float = 0.65) -> npt.NDArray[np.float64]:
    return np.exp(theta / (1 - theta) * qualities(scores))  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", ["random", "flat", "clustered", "near_copies", "low_rank"])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(150, 64, 50), (150, 128, 50), (LANES + 1, 30, 20), (400, 64, 50), (7, 3, 9)]
)
@pytest.mark.parametrize("has_frac", [1.0, 0.8])
def test_the_choice_is_that_of_chen_et_al(shape: str, n: int, d: int, k: int, has_frac: float) -> None:
    for seed in range(10):
        scores, vectors = a_pool(shape, n, d, seed)
        has = np.random.default_rng(seed).random(n) < has_frac
        vectors[~has] = 0
        arguments = (weights_of(scores), vectors, has, neutral_cosine(vectors, has), k)
        assert greedy_map(*arguments).tolist() == greedy_map_reference(*arguments).tolist()


@given(
    n=st.integers(0, 120),
    d=st.integers(1, 40),
    k=st.integers(1, 40),
    theta=st.sampled_from([0.0, 0.3, 0.65, 0.9]),
    shape=st.sampled_from(["random", "flat", "clustered", "copies", "near_copies", "low_rank"]),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=150, deadline=None)
def test_every_choice_is_a_largest_conditional_variance(
    n: int, d: int, k: int, theta: float, shape: str, missing: float, seed: int
) -> None:
    scores, vectors = a_pool(shape, n, d, seed)
    has = np.random.default_rng(seed).random(n) >= missing
    vectors[~has] = 0
    chosen = choose_by_dpp(scores, vectors, has, theta, k)
    assert len(set(chosen.tolist())) == len(chosen) <= min(n, k)
    kernel, weights = cosines_of(vectors, has, neutral_cosine(vectors, has)), weights_of(scores, theta)
    for step, row in enumerate([*chosen.tolist(), -1]):
        rests = conditional_rests(kernel, chosen[:step])
        variances = weights * rests
        if row < 0:
            assert step == min(n, k) or variances.max() <= LEAST_VARIANCE * (1 + 1e-3) + 1e-9 * weights.max()
        else:
            # Equals may go in any order here: what rounding leaves of a variance differs with the way it is computed.
            assert variances[row] >= variances.max() - 1e-7 * np.sqrt(weights[row] * weights.max())


@pytest.mark.parametrize("shape", ["random", "flat", "clustered", "copies"])
def test_the_largest_theta_is_nearly_the_order_of_scores(shape: str) -> None:
    scores, vectors = a_pool(shape, 120, 64, 1)
    has = np.ones(120, dtype=np.bool_)
    arguments = (weights_of(scores, 0.99), vectors, has, 0.0, 40)
    chosen = greedy_map(*arguments)
    assert chosen.tolist() == greedy_map_reference(*arguments).tolist()
    assert len(np.unique(vectors[chosen], axis=0)) == 40  # no copies, however heavy they are


def cosines_of(vectors: Array, has: Array, neutral: float) -> npt.NDArray[np.float64]:
    units = vectors.astype(np.float64)
    units[has] /= np.linalg.norm(units[has], axis=1, keepdims=True)
    cosines = np.where(has[:, None] & has[None, :], units @ units.T, neutral)
    np.fill_diagonal(cosines, 1.0)
    return cosines


def conditional_rests(cosines: npt.NDArray[np.float64], chosen: Array) -> npt.NDArray[np.float64]:
    """Return 1 - s·S⁻¹ s for everybody, by solving the equations: no factor is kept. Chosen ones have -inf."""
    of_chosen = cosines[:, chosen]
    solved = (
        np.linalg.solve(cosines[np.ix_(chosen, chosen)], of_chosen.T) if len(chosen) else np.empty((0, len(cosines)))
    )
    rests = np.asarray(1.0 - np.einsum("ij,ji->i", of_chosen, solved))
    rests[chosen] = -np.inf
    return rests


def test_of_two_copies_the_better_is_chosen_and_the_other_is_not() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    scores = np.array([1.0, 0.9, 0.2, 0.1], dtype=np.float32)
    assert choose_by_dpp(scores, vectors, np.ones(4, dtype=np.bool_), 0.65, 4).tolist() == [0, 2, 3]


def test_a_copy_that_is_a_scaled_vector_is_a_copy() -> None:
    vectors = np.array([[1, 0], [3, 0], [0, 2]], dtype=np.float32)
    scores = np.array([1.0, 0.9, 0.1], dtype=np.float32)
    assert choose_by_dpp(scores, vectors, np.ones(3, dtype=np.bool_), 0.65, 3).tolist() == [0, 2]


def test_a_hand_worked_choice() -> None:
    # Weights e^(13/7 q); after the first, what is left of the second is 1 - 0.8² = 0.36, of the third 1 - 0 = 1.
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    has = np.ones(3, dtype=np.bool_)
    scores = np.array([1.0, 0.9, 0.6], dtype=np.float32)
    assert 0.36 * np.exp(13 / 7 * 0.9) < np.exp(13 / 7 * 0.6)
    assert choose_by_dpp(scores, vectors, has, 0.65, 2).tolist() == [0, 2]
    scores[2] = 0.3
    assert 0.36 * np.exp(13 / 7 * 0.9) > np.exp(13 / 7 * 0.3)
    assert choose_by_dpp(scores, vectors, has, 0.65, 2).tolist() == [0, 1]


def test_equals_go_in_the_order_of_the_pool() -> None:
    vectors = np.eye(90, dtype=np.float32)
    scores = np.ones(90, dtype=np.float32)
    chosen = choose_by_dpp(scores, vectors, np.ones(90, dtype=np.bool_), 0.65, 85)
    assert chosen.tolist() == list(range(85))


def test_without_vectors_the_best_are_chosen() -> None:
    scores = np.linspace(1, 0.1, 100).astype(np.float32)
    vectors = np.zeros((100, 64), dtype=np.float32)
    assert choose_by_dpp(scores, vectors, np.zeros(100, dtype=np.bool_), 0.65, 50).tolist() == list(range(50))


def test_a_missing_vector_is_neither_favoured_nor_punished() -> None:
    # Two pairs of half-alike posts, one post in between without a vector: 6 pairs known, mean cosine (0.5 + 0.5) / 6.
    a, b = np.array([1, 0, 0, 0.0]), np.array([0, 0, 1, 0.0])
    vectors = np.array(
        [a, 0.5 * a + [0, 0.75**0.5, 0, 0], np.zeros(4), b, 0.5 * b + [0, 0, 0, 0.75**0.5]], dtype=np.float32
    )
    has = np.array([True, True, False, True, True])
    assert neutral_cosine(vectors, has) == pytest.approx(1 / 6)
    scores = np.full(5, 1.0, dtype=np.float32)
    # After the first: itself gone, its like 1 - 1/4, the one without a vector 1 - 1/36, the others 1.
    assert choose_by_dpp(scores, vectors, has, 0.65, 5)[:3].tolist() == [0, 3, 2]


@given(n=st.integers(2, 30), missing=st.integers(1, 5), seed=st.integers(0, 100))
def test_the_neutral_cosine_is_the_mean_over_all_pairs_at_least_0(n: int, missing: int, seed: int) -> None:
    _, vectors = a_pool("random" if seed % 2 else "clustered", n, 5, seed)
    pairs = (vectors.astype(np.float64) @ vectors.T)[~np.eye(n, dtype=np.bool_)]
    padded = np.concatenate((vectors, np.zeros((missing, 5), dtype=np.float32)))
    has = np.arange(n + missing) < n
    assert neutral_cosine(padded, has) == pytest.approx(max(pairs.mean(), 0.0), abs=1e-6)


@pytest.mark.parametrize("scores", [[], [0.0, 0.0], [-1.0, -2.0], [np.nan, np.inf]])
def test_scores_without_a_positive_one_are_all_of_quality_0(scores: list[float]) -> None:
    assert qualities(np.array(scores, dtype=np.float32)).tolist() == [0.0] * len(scores)


def test_qualities_are_shares_of_the_best() -> None:
    assert qualities(np.array([4, 1, -3, np.nan], dtype=np.float32)).tolist() == [1.0, 0.25, 0.0, 0.0]
