"""Greedy MAP inference of a determinantal point process (Chen et al. 2018), lazily and with two precisions.

The kernel is X's: ``L_ij = e^(a q_i) e^(a q_j) cos(i, j)``, ``L_ii = e^(2 a q_i)``, with a = theta / (2 (1 - theta)).
Each step takes the candidate that adds most to the determinant: the one of largest conditional variance, its diagonal
entry less what the chosen ones explain of it.

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

LEAST_REST: Final = 1e-10
"""Of whom less than this share is left, nothing is: large weights (theta near 1) would make more of rounding."""

TOLERANCE: Final = 1e-5
"""How far off a variance in single precision is at most, over the largest weight and the root of its own over that.

An entry is off by the rounding of a cosine over the pivot's root, and at most as large as the root of what is left of
its candidate. The pivot is the largest variance, so that what the roots do not cancel is the weights'. The largest
error found in random, clustered and nearly singular pools is a quarter of this.
"""

_SMALL_REST: Final = 1e-4
_LEAST_WEIGHT: Final = 1e-30
SCORES: Final = types.Array(types.float32, 1, "C", readonly=True)
VECTORS: Final = types.Array(types.float32, 2, "C", readonly=True)
FLAGS: Final = types.Array(types.boolean, 1, "C", readonly=True)
_WEIGHTS: Final = types.Array(types.float64, 1, "C", readonly=True)


@njit(cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _exact_rest(
    candidate: int,
    chosen: Int64Array,
    entries: Float64Array,
    chosen_rows: Float32Array,
    pivots: Float64Array,
    vectors: Float32Array,
    has: BoolArray,
    neutral: float,
    lengths: Float64Array,
    gap: Float64Array,
) -> float:
    """Return in double precision what the chosen ones leave of a candidate: its variance over its weight.

    With s its cosines to the chosen ones and S theirs among each other, what is left is ``1 - s·S⁻¹ s``. The factor in
    single precision gives coefficients x that are nearly ``S⁻¹ s``. With h = s - S x, what they still miss, it is
    exactly ``1 - 2 x·s + x·S x - h·S⁻¹ h``, and the factor will do for the last term, which is tiny.

    Parameters
    ----------
    entries
        The candidate's row of the factor; overwritten.
    gap
        Scratch, shape (d,).
    """
    n, d = len(chosen), vectors.shape[1]
    vector = vectors[candidate]
    length = 0.0
    for i in range(d):
        length += np.float64(vector[i]) * np.float64(vector[i])
    own = 1.0 / np.sqrt(length) if has[candidate] else 0.0
    for i in range(d):
        gap[i] = own * vector[i]
    # Who has no vector has the neutral cosine to all others: of those only the sum of coefficients counts.
    known, missing, squares = 0.0, 0.0, 0.0
    for k in range(n - 1, -1, -1):
        x = entries[k] / pivots[k]
        entries[k] = x
        for before in range(k):
            entries[before] -= chosen_rows[k, before] * x
        if has[chosen[k]]:
            known += x
            other = vectors[chosen[k]]
            step = x / lengths[k]
            for i in range(d):
                gap[i] -= step * other[i]
        else:
            missing += x
            squares += x * x
    rest = (1.0 - neutral) * squares + neutral * missing * (missing + 2.0 * known)
    for i in range(d):
        rest += gap[i] * gap[i]
    rest -= 2.0 * neutral * (missing if has[candidate] else known + missing)
    rest += 0.0 if has[candidate] else 1.0
    for k in range(n):
        if has[chosen[k]]:
            other = vectors[chosen[k]]
            missed = 0.0
            for i in range(d):
                missed += gap[i] * other[i]
            missed = missed / lengths[k] - neutral * missing
            missed += 0.0 if has[candidate] else neutral
        else:
            missed = neutral * (1.0 - known - missing) - (1.0 - neutral) * entries[k]
        for before in range(k):
            missed -= chosen_rows[k, before] * entries[before]
        entries[k] = missed / pivots[k]
        rest -= entries[k] * entries[k]
    return rest


@njit([types.int64[::1](_WEIGHTS, VECTORS, FLAGS, types.float64, types.int64)], cache=True)
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
    entries = np.empty(most, dtype=np.float64)
    gap = np.empty(d, dtype=np.float64)
    lengths = np.empty(most, dtype=np.float64)
    is_ready = np.zeros((n_blocks, most), dtype=np.bool_)
    slots = np.full(n_blocks * LANES, -1, dtype=np.int64)
    n_done = np.full(n_blocks, -1, dtype=np.int64)
    highest = np.empty(n_blocks, dtype=np.float64)
    pivots = np.empty(most, dtype=np.float64)
    slacks = np.zeros((n_blocks, LANES), dtype=np.float32)

    # Bounds are kept relative to the largest weight, within what single precision can hold.
    unit = weights.max()
    for i in range(n):
        lane_weights[i // LANES, i % LANES] = max(weights[i] / unit, _LEAST_WEIGHT)
        slacks[i // LANES, i % LANES] = TOLERANCE * np.sqrt(weights[i] / unit)
    for b in range(n_blocks):
        highest[b] = bound_block(bounds, rests, lane_weights, slacks, b)
    least = LEAST_VARIANCE / unit
    n_groups, step = 0, 0
    while step < most:
        # Bring blocks up to date until those that could hold the largest variance are.
        while True:
            b = 0
            for other in range(1, n_blocks):
                if highest[other] > highest[b]:
                    b = other
            lane = first_at_least(bounds, highest[b], b)
            low = highest[b] - 2.0 * slacks[b, lane]
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
            highest[stale] = bound_block(bounds, rests, lane_weights, slacks, stale)
            n_done[stale] = step
        if highest[b] <= least:
            break
        row = b * LANES + lane
        if n_open > 1 or low <= least or rests[b, lane] < _SMALL_REST:
            best = LEAST_VARIANCE
            row = -1
            for other in range(n_blocks):
                if highest[other] < low:
                    continue
                for i in range(LANES):
                    if lane_weights[other, i] > 0.0 and bounds[other, i] >= np.float32(low):
                        candidate = other * LANES + i
                        for k in range(step):
                            entries[k] = factors[other, k * LANES + i]
                        rest = _exact_rest(
                            candidate, chosen[:step], entries, chosen_rows, pivots, vectors, has, neutral, lengths, gap
                        )
                        variance = rest * weights[candidate]
                        if rest <= LEAST_REST or variance <= LEAST_VARIANCE:
                            lane_weights[other, i], slacks[other, i], bounds[other, i] = 0.0, 0.0, -1.0
                        elif variance > best:
                            best, row = variance, candidate
                highest[other] = largest(bounds, other)
            if row < 0:  # all of them are explained: look further down
                continue
            b, lane = row // LANES, row % LANES
            rests[b, lane] = best / weights[row]
        chosen[step] = row
        rest = rests[b, lane]
        pivots[step] = np.sqrt(rest)
        square = 0.0
        for k in range(d):
            square += np.float64(vectors[row, k]) * np.float64(vectors[row, k])
        lengths[step] = np.sqrt(square)
        for k in range(step):
            chosen_rows[step, k] = factors[b, k * LANES + lane]
        if slots[row] < 0:
            form_group(rows, slots, bounds, highest, n_done, scales, vectors, GROUP * n_groups, row)
            n_groups += 1
        lane_weights[b, lane], slacks[b, lane] = 0.0, 0.0
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
        variances[variances <= LEAST_REST * weights] = -np.inf
        row = int(np.argmax(variances))
        if variances[row] <= LEAST_VARIANCE:
            break
        step = len(chosen)
        entries[step] = (kernel[row] - entries[:step, row] @ entries[:step]) / np.sqrt(variances[row])
        variances -= entries[step] ** 2
        variances[row] = -np.inf
        chosen.append(row)
    return np.array(chosen, dtype=np.int64)
