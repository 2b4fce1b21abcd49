"""Greedy DPP re-ranking: 50 chosen of 150 and of 1,000 posts with vectors of 128 coordinates.

All get scores and float32 vectors and return the chosen rows in order, at X's theta of 0.65; the kernel is built anew
for every pool, as for every request:

* ours: `choose_by_dpp`, lazy, single precision for bounds and double for decisions;
* ``chen_numpy``: Chen et al. 2018 in NumPy as the authors published it (lengths, cosines and kernel by whole-matrix
  operations, then a Cholesky row a step), double precision;
* ``chen_float32``: the same tuned further: weights multiplied into the vectors, single precision all through. It need
  not choose the same: ``float32_equal_frac`` says how often it does;
* ``eager``: Chen et al.'s steps compiled by Numba, double precision, no kernel matrix: what laziness and lanes add.

Slates are compared over many pools of five shapes first: ``lognormal`` scores with random directions (the timed one),
``uniform`` scores, ``flat`` scores within one percent, ``clustered`` directions around 20 centres, and ``near_copies``:
every third post nearly a copy of another. ``ours_<shape>_ms`` are ours on the other shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import njit

from harness import emit, interleave, median_ms, percentile_ms, without_options
from millrace.mixer.rerankers.dpp import THETA, choose_by_dpp
from millrace.mixer.rerankers.dpp_kernel import LEAST_VARIANCE

N_SMALL: Final = 150
N_LARGE: Final = 1_000
K: Final = 50
D: Final = 128
N_POOLS: Final = 40
N_CHECKED: Final = 300
N_ROUNDS: Final = 30
SHAPES: Final = ("lognormal", "uniform", "flat", "clustered", "near_copies")
ALPHA: Final = float(THETA.default) / (2 * (1 - float(THETA.default)))

Array = np.ndarray
Pool = tuple[Array, Array]


def a_pool(shape: str, n: int, seed: int) -> Pool:
    """Return scores, best first, and vectors."""
    rng = np.random.default_rng((seed, n))
    vectors = rng.standard_normal((n, D))
    if shape == "clustered":
        vectors = 0.5 * vectors + rng.standard_normal((20, D))[rng.integers(0, 20, n)]
    if shape == "near_copies":
        copies = rng.choice(n, n // 3, replace=False)
        vectors[copies] = vectors[rng.integers(0, n, n // 3)] + 1e-3 * rng.standard_normal((n // 3, D))
    scores = rng.lognormal(0, 1, n)
    if shape in ("uniform", "flat"):
        scores = rng.random(n) if shape == "uniform" else 1 + 0.01 * rng.random(n)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.sort(scores)[::-1].astype(np.float32), vectors.astype(np.float32)


def ours(pool: Pool) -> Array:
    scores, vectors = pool
    return choose_by_dpp(scores, vectors, np.ones(len(scores), dtype=np.bool_), float(THETA.default), K)


def chen_numpy(pool: Pool) -> Array:
    scores, vectors = pool
    weights = np.exp(ALPHA * (scores / scores.max()).astype(np.float64))
    units = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    kernel = units @ units.T
    kernel *= weights[:, None]
    kernel *= weights
    np.fill_diagonal(kernel, weights * weights)  # not nearly so: of equal scores the first goes first
    return steps(kernel)


def chen_float32(pool: Pool) -> Array:
    scores, vectors = pool
    weighted = vectors * np.exp(np.float32(ALPHA) * (scores / scores.max()))[:, None]
    return steps(weighted @ weighted.T)


def steps(kernel: Array) -> Array:
    """Choose by a kernel matrix: the published algorithm."""
    variances = np.diagonal(kernel).copy()
    entries = np.empty((K, len(kernel)), dtype=kernel.dtype)
    chosen = [int(np.argmax(variances))]
    while len(chosen) < K:
        step, row = len(chosen) - 1, chosen[-1]
        np.divide(kernel[row] - entries[:step, row] @ entries[:step], np.sqrt(variances[row]), out=entries[step])
        variances -= np.square(entries[step])
        variances[row] = -np.inf
        row = int(np.argmax(variances))
        if variances[row] <= LEAST_VARIANCE:
            break
        chosen.append(row)
    return np.array(chosen)


def eager(pool: Pool) -> Array:
    scores, vectors = pool
    return eager_steps(np.exp(2 * ALPHA * (scores / scores.max()).astype(np.float64)), vectors)


@njit(fastmath={"reassoc", "contract", "nsz"})
def eager_steps(weights: Array, vectors: Array) -> Array:
    n, d = vectors.shape
    units = np.empty((n, d))
    for i in range(n):
        square = 0.0
        for k in range(d):
            square += np.float64(vectors[i, k]) * np.float64(vectors[i, k])
        for k in range(d):
            units[i, k] = vectors[i, k] / np.sqrt(square)
    entries, rests, chosen = np.empty((n, K)), np.ones(n), np.empty(K, dtype=np.int64)
    for step in range(K):
        row, best = -1, LEAST_VARIANCE
        for i in range(n):
            if rests[i] * weights[i] > best:
                row, best = i, rests[i] * weights[i]
        if row < 0:
            return chosen[:step]
        chosen[step] = row
        over = 1 / np.sqrt(rests[row])
        for i in range(n):
            entry, explained = 0.0, 0.0
            for k in range(d):
                entry += units[i, k] * units[row, k]
            for k in range(step):
                explained += entries[i, k] * entries[row, k]
            entries[i, step] = (entry - explained) * over
            rests[i] -= entries[i, step] ** 2
        rests[row] = -1.0
    return chosen


def timed(runs: dict[str, Callable[[Pool], Array]], shape: str, n: int, n_rounds: int) -> dict[str, Array]:
    """Return seconds of a pool's re-ranking; a turn re-ranks several pools, each timed by itself."""
    pools = [a_pool(shape, n, seed) for seed in range(N_POOLS)]
    contenders = {name: _asking(run, pools) for name, run in runs.items()}
    return interleave(contenders, n_rounds=n_rounds, n_warmup=2, n_per_turn=8)


def _asking(run: Callable[[Pool], Array], pools: list[Pool]) -> Callable[[int], Any]:
    return lambda number: run(pools[number % len(pools)])


def main() -> None:
    equal, same_float32, n_compared = True, 0, 0
    for shape in SHAPES:
        for n, n_pools in ((N_SMALL, N_CHECKED), (N_LARGE, N_CHECKED // 10)):
            for seed in range(1_000, 1_000 + n_pools):
                pool = a_pool(shape, n, seed)
                theirs = chen_numpy(pool)
                equal = equal and np.array_equal(ours(pool), theirs) and np.array_equal(eager(pool), theirs)
                same_float32 += np.array_equal(chen_float32(pool), theirs)
                n_compared += 1
    runs = {"ours": ours, "chen_numpy": chen_numpy, "chen_float32": chen_float32, "eager": eager}
    small = timed(runs, "lognormal", N_SMALL, N_ROUNDS)
    large = timed(runs, "lognormal", N_LARGE, N_ROUNDS // 3)
    took_ms = {name: median_ms(values) for name, values in small.items()}
    took_1000_ms = {name: median_ms(values) for name, values in large.items()}
    others = {
        f"ours_{shape}{suffix}_ms": median_ms(timed({"ours": ours}, shape, n, 10)["ours"])
        for shape in SHAPES[1:]
        for n, suffix in ((N_SMALL, ""), (N_LARGE, "_1000"))
    }
    theirs = [name for name in runs if name != "ours"]
    emit(
        "dpp",
        equal=equal,
        ratio={
            **{name: took_ms[name] / took_ms["ours"] for name in theirs},
            **{f"{name}_1000": took_1000_ms[name] / took_1000_ms["ours"] for name in theirs},
        },
        ours_ms=took_ms["ours"],
        ours_p99_ms=percentile_ms(small["ours"], 99),
        ours_1000_ms=took_1000_ms["ours"],
        **{f"{name}_ms": took_ms[name] for name in theirs},
        **{f"{name}_1000_ms": took_1000_ms[name] for name in theirs},
        **others,
        n_compared=n_compared,
        float32_equal_frac=same_float32 / n_compared,
    )


if __name__ == "__main__":
    without_options(__doc__)
    main()
