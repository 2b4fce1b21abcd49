"""Diversity by a determinantal point process: the set of posts that is good and unlike itself (X's vm-ranker)."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.params import Param
from millrace.mixer.rerankers.dpp_kernel import greedy_map
from millrace.mixer.rerankers.dpp_lanes import Float32Array, Float64Array
from millrace.pipeline.column import BoolArray, IntArray

IS_ON: Final = Param("dpp.is_on", default=True, doc="re-rank by a determinantal point process")
MAX_POOL: Final = Param("dpp.max_pool", 150, 1, 2_000, "so many of the best scores are compared; MMR's too")
MAX_CHOSEN: Final = Param("dpp.max_chosen", 50, 1, 500, "so many of the pool are chosen at most; MMR's too")
THETA: Final = Param("dpp.theta", 0.65, 0.0, 0.99, "0: only unlikeness counts; towards 1: only the score")


def choose_by_dpp(
    scores: Float32Array, vectors: Float32Array, has: BoolArray, theta: float, max_chosen: int
) -> IntArray:
    """Return the rows of a pool that greedy MAP chooses, in the order of their choice.

    Parameters
    ----------
    scores
        Shape (n,), best first.
    vectors
        Shape (n, d), float32, zeros where there is none.
    has
        Who has a vector, shape (n,).
    theta
        How far quality counts: the kernel's a is ``theta / (2 (1 - theta))``.
    max_chosen
        How many at most.
    """
    alpha = theta / (2.0 * (1.0 - theta))
    return greedy_map(np.exp(2.0 * alpha * qualities(scores)), vectors, has, neutral_cosine(vectors, has), max_chosen)


def qualities(scores: Float32Array) -> Float64Array:
    """Return scores over the largest, between 0 and 1; 0 for what is no number, and if none is above 0."""
    usable = np.where(np.isfinite(scores), scores, 0.0).astype(np.float64)
    best = usable.max(initial=0.0)
    return np.clip(usable / best, 0.0, 1.0) if best > 0.0 else np.zeros(len(scores))


def neutral_cosine(vectors: Float32Array, has: BoolArray) -> float:
    """Return what stands for the cosine to a post without a vector: the mean of those that are known, at least 0.

    All pairs of n vectors of length 1 have the mean cosine ``(|sum|² - n) / (n (n - 1))``: no pair is looked at.
    """
    n = int(np.count_nonzero(has))
    if n == len(has) or n < 2:
        return 0.0
    known = vectors[has].astype(np.float64)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    total = known.sum(axis=0)
    return min(max((float(total @ total) - n) / (n * (n - 1)), 0.0), 1.0)
