"""Greedy MAP inference of a determinantal point process (Chen et al. 2018), lazily and with two precisions.

The kernel is X's: ``L_ij = e^(a q_i) e^(a q_j) cos(i, j)``, ``L_ii = e^(2 a q_i)``, with a = theta / (2 (1 - theta)). Each
step takes the candidate that adds most to the determinant: the one of largest conditional variance, its diagonal entry
less what the chosen ones explain of it.

Three things make it quick, and none changes the answer:

* the weights ``e^(a q)`` factor out, so that the factor is of cosines and only of those to chosen candidates;
* conditional variances only fall, so a block of candidates is brought up to date only when its old bound is the largest
  (lazy greedy, as in Hemmi et al. 2022);
* single precision proposes, double precision decides: `dpp_lanes` bounds all variances in single precision; candidates
  whose bounds leave open which is the largest, or whether it is above zero, are computed exactly.

Ties go to the candidate that comes first in the pool.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.mixer.rerankers.dpp_lanes import (
    GROUP,
    LANES,
    STRIDE,
    Float32Array,
    Float64Array,
    apply_step,
    bound_block,
    count_at_least,
    first_at_least,
    form_group,
    group_cosines,
    largest,
    load_block,
)
from millrace.pipeline.column import BoolArray

LEAST_VARIANCE: Final = 1e-6
"""The choice ends where nothing adds more than this: what is left is explained by what was chosen."""

TOLERANCE: Final = 1e-5
"""Error of a variance in single precision, over its weight and times the smallest pivot; tests find a tenth of it."""

_LEAST_WEIGHT: Final = 1e-30
_VECTORS: Final = types.Array(types.float32, 2, "C", readonly=True)
_FLAGS_IN: Final = types.Array(types.boolean, 1, "C", readonly=True)
_WEIGHTS: Final = types.Array(types.float64, 1, "C", readonly=True)


@njit(cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _exact_row(
    candidate: int,
    n_chosen: int,
    chosen: Int64Array,
    vectors: Float32Array,
    has: BoolArray,
    neutral: float,
    factor: Float64Array,
    pivots: Float64Array,
    row: Float64Array,
) -> float:
    """Compute a candidate's row of the factor in double precision; return what is left of 1."""
    d = vectors.shape[1]
    vector = vectors[candidate]
    own = 0.0
    for k in range(d):
        own += np.float64(vector[k]) * np.float64(vector[k])
    rest = 1.0
    for step in range(n_chosen):
        cosine = neutral
        if has[candidate] and has[chosen[step]]:
            other = vectors[chosen[step]]
            product, square = 0.0, 0.0
            for k in range(d):
                product += np.float64(vector[k]) * np.float64(other[k])
                square += np.float64(other[k]) * np.float64(other[k])
            cosine = product / np.sqrt(own * square)
        before = factor[step]
        for k in range(step):
            cosine -= row[k] * before[k]
        row[step] = cosine / pivots[step]
        rest -= row[step] * row[step]
    return rest


@njit([types.int64[::1](_WEIGHTS, _VECTORS, _FLAGS_IN, types.float64, types.int64)], cache=True)
def greedy_map(  # noqa: C901 - one loop on purpose: a call costs a count of references for every array
    weights: Float64Array, vectors: Float32Array, has: BoolArray, neutral: float, max_chosen: int
) -> Int64Array:
    """Return the rows that greedy MAP chooses, in the order of their choice.

    Parameters
    ----------
    weights
        ``L_ii``, shape (n,), float64, above 0.
    vectors
        Shape (n, d), float32, finite; lengths do not matter.
    has
        Who has a vector, shape (n,).
    neutral
        The cosine of who has none to everybody else.
    max_chosen
        How many at most; fewer where nothing else adds `LEAST_VARIANCE`.
    """
    n, d = vectors.shape
    most = min(max_chosen, n)
    chosen = np.empty(most, dtype=np.int64)
    if most == 0:
        return chosen
    n_blocks = (n + LANES - 1) // LANES
    n_entries = (most + STRIDE - 1) // STRIDE * STRIDE
    n_coordinates = (d + 3) // 4 * 4
    coordinates = np.empty((n_blocks, n_coordinates * LANES), dtype=np.float32)
    factors = np.zeros((n_blocks, n_entries * LANES), dtype=np.float32)
    cosines = np.empty((n_blocks, GROUP * most * LANES), dtype=np.float32)
    rows = np.empty((GROUP * most, n_coordinates), dtype=np.float32)
    chosen_rows = np.zeros((most, n_entries), dtype=np.float32)
    scales = np.empty((n_blocks, LANES), dtype=np.float32)
    bounds = np.zeros((n_blocks, LANES), dtype=np.float32)
    rests = np.ones((n_blocks, LANES), dtype=np.float32)
    lane_weights = np.zeros((n_blocks, LANES), dtype=np.float32)  # 0: chosen, or nobody
    entry = np.empty(LANES, dtype=np.float32)
    is_ready = np.zeros((n_blocks, most), dtype=np.bool_)
    slots = np.full(n_blocks * LANES, -1, dtype=np.int64)
    n_done = np.full(n_blocks, -1, dtype=np.int64)
    highest = np.empty(n_blocks, dtype=np.float64)
    pivots = np.empty(most, dtype=np.float64)
    exact = np.empty((most, most), dtype=np.float64)
    exact_pivots = np.empty(most, dtype=np.float64)
    exact_row = np.empty(most, dtype=np.float64)

    # Bounds are kept relative to the largest weight, within what single precision can hold.
    unit = weights.max()
    for i in range(n):
        lane_weights[i // LANES, i % LANES] = max(weights[i] / unit, _LEAST_WEIGHT)
    for b in range(n_blocks):
        highest[b] = bound_block(bounds, rests, lane_weights, 0.0, b)
    least = LEAST_VARIANCE / unit
    tolerance, smallest = TOLERANCE, 1.0
    n_groups, n_exact, step = 0, 0, 0
    while step < most:
        # Bring blocks up to date until those that could hold the largest variance are.
        while True:
            b = 0
            for other in range(1, n_blocks):
                if highest[other] > highest[b]:
                    b = other
            lane = first_at_least(bounds, highest[b], b)
            low = highest[b] - 2.0 * tolerance * lane_weights[b, lane]
            n_open = 0
            stale = b if n_done[b] < step else -1
            for other in range(n_blocks):
                if highest[other] >= low and stale < 0:
                    if n_done[other] < step:
                        stale = other
                    n_open += count_at_least(bounds, low, other)
            if stale < 0:
                break
            if n_done[stale] < 0:
                load_block(coordinates, scales, vectors, has, stale)
                n_done[stale] = 0
            for k in range(n_done[stale], step):
                slot = slots[chosen[k]]
                group = slot // GROUP
                if not is_ready[stale, group]:
                    group_cosines(cosines, coordinates, scales, rows, GROUP * group, neutral, stale)
                    is_ready[stale, group] = True
                apply_step(factors, rests, cosines, chosen_rows[k], entry, slot, k, pivots[k], stale)
            highest[stale] = bound_block(bounds, rests, lane_weights, tolerance, stale)
            n_done[stale] = step
        if highest[b] <= least:
            break
        row = b * LANES + lane
        if n_open > 1 or low <= least:
            while n_exact < step:
                rest = _exact_row(
                    chosen[n_exact], n_exact, chosen, vectors, has, neutral, exact, exact_pivots, exact[n_exact]
                )
                exact_pivots[n_exact] = np.sqrt(max(rest, 1e-12))
                n_exact += 1
            best = LEAST_VARIANCE
            row = -1
            for other in range(n_blocks):
                if highest[other] < low:
                    continue
                for i in range(LANES):
                    if lane_weights[other, i] > 0.0 and bounds[other, i] >= np.float32(low):
                        candidate = other * LANES + i
                        rest = _exact_row(
                            candidate, step, chosen, vectors, has, neutral, exact, exact_pivots, exact_row
                        )
                        variance = rest * weights[candidate]
                        if variance > best:
                            best, row = variance, candidate
            if row < 0:
                break
            b, lane = row // LANES, row % LANES
            rests[b, lane] = best / weights[row]
        chosen[step] = row
        rest = rests[b, lane]
        pivots[step] = np.sqrt(rest)
        smallest = min(smallest, rest)
        tolerance = TOLERANCE / smallest
        for k in range(step):
            chosen_rows[step, k] = factors[b, k * LANES + lane]
        if slots[row] < 0:
            form_group(rows, slots, bounds, scales, vectors, GROUP * n_groups, row)
            n_groups += 1
        lane_weights[b, lane] = 0.0
        bounds[b, lane] = -1.0
        highest[b] = largest(bounds, b)
        step += 1
    return chosen[:step]


def greedy_map_reference(
    weights: Float64Array, vectors: Float32Array, has: BoolArray, neutral: float, max_chosen: int
) -> Int64Array:
    """Return the same as `greedy_map`: Chen et al.'s algorithm on the whole kernel, in NumPy and double precision."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    units = vectors / np.where(has, lengths, 1.0)[:, None]
    cosines = np.where(has[:, None] & has[None, :], units @ units.T, neutral)
    np.fill_diagonal(cosines, 1.0)
    kernel = np.sqrt(np.outer(weights, weights)) * cosines
    variances = weights.astype(np.float64)
    entries = np.empty((max_chosen, len(weights)))
    chosen: list[int] = []
    while len(chosen) < min(max_chosen, len(weights)):
        row = int(np.argmax(variances))
        if variances[row] <= LEAST_VARIANCE:
            break
        step = len(chosen)
        entries[step] = (kernel[row] - entries[:step, row] @ entries[:step]) / np.sqrt(variances[row])
        variances -= entries[step] ** 2
        variances[row] = -np.inf
        chosen.append(row)
    return np.array(chosen, dtype=np.int64)
