"""Diversity by a determinantal point process: the set of posts that is good and unlike itself (X's vm-ranker)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.base.params import Param
from millrace.mixer.rerankers.dpp_kernel import FLAGS, SCORES, VECTORS, greedy_map
from millrace.mixer.rerankers.dpp_lanes import Float32Array, Float64Array
from millrace.pipeline.column import BoolArray

IS_ON: Final = Param("dpp.is_on", default=True, doc="re-rank by a determinantal point process")
MAX_POOL: Final = Param("dpp.max_pool", 150, 1, 2_000, "so many of the best scores are compared; MMR's too")
MAX_CHOSEN: Final = Param("dpp.max_chosen", 50, 1, 500, "so many of the pool are chosen at most; MMR's too")
THETA: Final = Param("dpp.theta", 0.65, 0.0, 0.99, "0: only unlikeness counts; towards 1: only the score")


@njit([types.float64[::1](SCORES)], cache=True)
def qualities(scores: Float32Array) -> Float64Array:
    """Return scores over the largest, between 0 and 1; 0 for what is no number, and if none is above 0."""
    quality = np.zeros(len(scores), dtype=np.float64)
    best = 0.0
    for i in range(len(scores)):
        if np.isfinite(scores[i]):
            quality[i] = max(scores[i], 0.0)
            best = max(best, quality[i])
    return quality / best if best > 0.0 else quality


@njit([types.float64(VECTORS, FLAGS)], cache=True)
def neutral_cosine(vectors: Float32Array, has: BoolArray) -> float:
    """Return what stands for the cosine to a post without a vector: the mean of those that are known, at least 0.

    All pairs of n vectors of length 1 have the mean cosine ``(|sum|² - n) / (n (n - 1))``: no pair is looked at.
    """
    n = np.count_nonzero(has)
    if n == len(has) or n < 2:
        return 0.0
    total = np.zeros(vectors.shape[1], dtype=np.float64)
    for i in range(len(has)):
        if has[i]:
            length = 0.0
            for x in vectors[i]:
                length += np.float64(x) * np.float64(x)
            total += vectors[i] / np.sqrt(length)
    mean = (np.sum(total * total) - n) / (n * (n - 1.0))
    return float(min(max(mean, 0.0), 1.0))


@njit([types.int64[::1](SCORES, VECTORS, FLAGS, types.float64, types.int64)], cache=True)
def choose_by_dpp(
    scores: Float32Array, vectors: Float32Array, has: BoolArray, theta: float, max_chosen: int
) -> Int64Array:
    """Return the rows of a pool that greedy MAP chooses, in the order of their choice.

    Parameters
    ----------
    scores
        Shape (n,), float32, best first.
    vectors
        Shape (n, d), float32, finite and not zero where there is one.
    has
        Who has a vector, shape (n,).
    theta
        How far quality counts: the kernel's a is ``theta / (2 (1 - theta))``.
    max_chosen
        How many at most.
    """
    weights = np.exp(theta / (1.0 - theta) * qualities(scores))
    return greedy_map(weights, vectors, has, neutral_cosine(vectors, has), max_chosen)
