"""Maximal marginal relevance (Carbonell & Goldstein 1998): the alternative to the determinantal point process.

Step by step it takes the post of the largest ``lambda x quality - (1 - lambda) x (largest cosine to a taken one)``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.base.params import Param
from millrace.mixer.rerankers.dpp_kernel import FLAGS, VECTORS
from millrace.mixer.rerankers.dpp_lanes import Float32Array, Float64Array
from millrace.pipeline.column import BoolArray

IS_ON: Final = Param("mmr.is_on", default=False, doc="re-rank by maximal marginal relevance instead")
LAMBDA: Final = Param("mmr.lambda", 0.7, 0.0, 1.0, "1: only the score counts; 0: only unlikeness")

_QUALITIES: Final = types.Array(types.float64, 1, "C", readonly=True)


@njit(
    [types.int64[::1](_QUALITIES, VECTORS, FLAGS, types.float64, types.float64, types.int64)],
    cache=True,
    fastmath={"reassoc", "contract", "nsz"},
)
def marginal_relevance(
    quality: Float64Array, vectors: Float32Array, has: BoolArray, neutral: float, trade: float, max_chosen: int
) -> Int64Array:
    """Return rows in the order of their choice; the first of equals goes first.

    Parameters
    ----------
    quality
        Shape (n,), float64, 0 to 1.
    vectors
        Shape (n, d), float32, of length 1; zeros where there is none.
    has
        Who has a vector, shape (n,).
    neutral
        The cosine of who has none to everybody else.
    trade
        Lambda.
    max_chosen
        How many at most.
    """
    n, d = vectors.shape
    most = min(n, max_chosen)
    chosen = np.empty(most, dtype=np.int64)
    nearest = np.zeros(n, dtype=np.float64)
    is_free = np.ones(n, dtype=np.bool_)
    for step in range(most):
        row = -1
        best = 0.0
        for i in range(n):
            if is_free[i]:
                gain = trade * quality[i] - (1.0 - trade) * nearest[i]
                if row < 0 or gain > best:
                    row, best = i, gain
        chosen[step] = row
        is_free[row] = False
        taken = vectors[row]
        for i in range(n):
            if is_free[i]:
                cosine = neutral
                if has[row] and has[i]:
                    cosine = 0.0
                    for k in range(d):
                        cosine += np.float64(vectors[i, k]) * np.float64(taken[k])
                if step == 0 or cosine > nearest[i]:
                    nearest[i] = cosine
    return chosen


def marginal_relevance_reference(
    quality: Float64Array, vectors: Float32Array, has: BoolArray, neutral: float, trade: float, max_chosen: int
) -> Int64Array:
    """Return the same as `marginal_relevance`, in NumPy."""
    units = vectors.astype(np.float64)
    cosines = np.where(has[:, None] & has[None, :], units @ units.T, neutral)
    chosen: list[int] = []
    while len(chosen) < min(len(quality), max_chosen):
        nearest = cosines[chosen].max(axis=0) if chosen else np.zeros(len(quality))
        gains = trade * quality - (1.0 - trade) * nearest
        gains[chosen] = -np.inf
        chosen.append(int(np.argmax(gains)))
    return np.array(chosen, dtype=np.int64)
