"""Single-precision bounds for the greedy DPP: 80 candidates at a time, side by side in the processor's lanes.

The conditional variance of a candidate, over its weight, is 1 less the squares of its row of the Cholesky factor of the
cosines. A step of the greedy choice gives every candidate one more entry of its row::

    entry = (cosine to the chosen one - own row · the chosen one's row) / its pivot

Candidates are kept in blocks of `LANES`, coordinate by coordinate, so that every loop below is over lanes and compiles
to vector instructions. What these kernels give is right to about seven digits: `dpp_kernel` makes bounds of it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.pipeline.column import BoolArray

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

LANES: Final = 80
"""Candidates of a block: two blocks are the usual pool of 150, and a row of a block is five vectors of 16."""

GROUP: Final = 4
"""Cosines are computed for so many at a time: each number read from the second-level cache is then used four times."""

STRIDE: Final = 8
"""Entries of a row that are subtracted at a time; rows are padded with zeros to a multiple."""

# Neither NaN nor signed zeros occur; sums may be taken in any order.
_FLAGS: Final = {"reassoc", "contract", "nsz", "arcp", "nnan"}


@njit(cache=True, fastmath=_FLAGS)
def load_block(coordinates: Float32Array, scales: Float32Array, vectors: Float32Array, has: BoolArray, b: int) -> None:
    """Turn a block's vectors on their side, and note one over their lengths; 0 where there is none."""
    n, d = vectors.shape
    first = b * LANES
    n_here = min(LANES, n - first)
    block, scale = coordinates[b], scales[b]
    if n_here < LANES or len(block) != d * LANES:
        block[:] = 0.0
    n_eights = n_here // 8 * 8
    for i in range(0, n_eights, 8):
        row = first + i
        v0, v1, v2, v3 = vectors[row], vectors[row + 1], vectors[row + 2], vectors[row + 3]
        v4, v5, v6, v7 = vectors[row + 4], vectors[row + 5], vectors[row + 6], vectors[row + 7]
        for k in range(d):
            out = block[k * LANES + i : k * LANES + i + 8]
            out[0], out[1], out[2], out[3] = v0[k], v1[k], v2[k], v3[k]
            out[4], out[5], out[6], out[7] = v4[k], v5[k], v6[k], v7[k]
    for i in range(n_eights, n_here):
        for k in range(d):
            block[k * LANES + i] = vectors[first + i, k]
    scale[:] = 0.0
    for k in range(0, len(block) // LANES, 4):
        e = block[k * LANES : (k + 4) * LANES]
        for i in range(LANES):
            e0, e1, e2, e3 = e[i], e[LANES + i], e[2 * LANES + i], e[3 * LANES + i]
            scale[i] += (e0 * e0 + e1 * e1) + (e2 * e2 + e3 * e3)
    for i in range(n_here):
        is_known = has[first + i] and scale[i] > 0.0
        scale[i] = np.float32(1.0) / np.sqrt(scale[i]) if is_known else np.float32(0.0)


@njit(cache=True, fastmath=_FLAGS)
def form_group(
    rows: Float32Array,
    slots: Int64Array,
    bounds: Float32Array,
    highest: Float64Array,
    n_done: Int64Array,
    scales: Float32Array,
    vectors: Float32Array,
    first_slot: int,
    chosen: int,
) -> None:
    """Give slots, and rows for `group_cosines`, to the chosen candidate and to three that are likely next.

    Likely are the largest bounds among loaded blocks; a wrong guess costs time, nothing else.
    """
    candidate = chosen
    for slot in range(first_slot, first_slot + GROUP):
        if slot > first_slot:
            candidate, best = -1, np.float32(0.0)
            for b in range(len(bounds)):
                if n_done[b] >= 0 and highest[b] > best:
                    bound = bounds[b]
                    for i in range(LANES):
                        if bound[i] > best and slots[b * LANES + i] < 0:
                            candidate, best = b * LANES + i, bound[i]
        row = rows[slot]
        row[:] = 0.0
        if candidate >= 0:
            slots[candidate] = slot
            source, scale = vectors[candidate], scales[candidate // LANES, candidate % LANES]
            for k in range(len(source)):
                row[k] = source[k] * scale


@njit(cache=True, fastmath=_FLAGS)
def group_cosines(
    cosines: Float32Array,
    coordinates: Float32Array,
    scales: Float32Array,
    rows: Float32Array,
    first_slot: int,
    neutral: float,
    b: int,
) -> None:
    """Compute the cosines of the four candidates of a group to all of a block."""
    block, scale = coordinates[b], scales[b]
    out = cosines[b, first_slot * LANES : (first_slot + GROUP) * LANES]
    p, q, r, s = rows[first_slot], rows[first_slot + 1], rows[first_slot + 2], rows[first_slot + 3]
    out[:] = 0.0
    for k in range(0, rows.shape[1], 4):
        p0, p1, p2, p3 = p[k], p[k + 1], p[k + 2], p[k + 3]
        q0, q1, q2, q3 = q[k], q[k + 1], q[k + 2], q[k + 3]
        r0, r1, r2, r3 = r[k], r[k + 1], r[k + 2], r[k + 3]
        s0, s1, s2, s3 = s[k], s[k + 1], s[k + 2], s[k + 3]
        e = block[k * LANES : (k + 4) * LANES]
        for i in range(LANES):
            e0, e1, e2, e3 = e[i], e[LANES + i], e[2 * LANES + i], e[3 * LANES + i]
            out[i] += p0 * e0 + p1 * e1 + p2 * e2 + p3 * e3
            out[LANES + i] += q0 * e0 + q1 * e1 + q2 * e2 + q3 * e3
            out[2 * LANES + i] += r0 * e0 + r1 * e1 + r2 * e2 + r3 * e3
            out[3 * LANES + i] += s0 * e0 + s1 * e1 + s2 * e2 + s3 * e3
    for slot in range(GROUP):
        for i in range(LANES):
            out[slot * LANES + i] *= scale[i]
    if neutral > 0.0:
        for slot in range(GROUP):
            is_missing = not np.any(rows[first_slot + slot])
            for i in range(LANES):
                if is_missing or scale[i] == 0.0:
                    out[slot * LANES + i] = neutral


@njit(cache=True, fastmath=_FLAGS)
def apply_step(
    factors: Float32Array,
    rests: Float32Array,
    cosines: Float32Array,
    chosen_row: Float32Array,
    entry: Float32Array,
    slot: int,
    step: int,
    pivot: float,
    b: int,
) -> None:
    """Give every candidate of a block its entry for one chosen candidate, and take its square off what is left."""
    factor, rest = factors[b], rests[b]
    cosine = cosines[b, slot * LANES : (slot + 1) * LANES]
    over = np.float32(1.0 / pivot)
    for i in range(LANES):
        entry[i] = cosine[i]
    for k in range(0, step, STRIDE):
        a0, a1, a2, a3 = chosen_row[k], chosen_row[k + 1], chosen_row[k + 2], chosen_row[k + 3]
        a4, a5, a6, a7 = chosen_row[k + 4], chosen_row[k + 5], chosen_row[k + 6], chosen_row[k + 7]
        f = factor[k * LANES : (k + STRIDE) * LANES]
        for i in range(LANES):
            entry[i] -= (
                (a0 * f[i] + a1 * f[LANES + i])
                + (a2 * f[2 * LANES + i] + a3 * f[3 * LANES + i])
                + (a4 * f[4 * LANES + i] + a5 * f[5 * LANES + i])
                + (a6 * f[6 * LANES + i] + a7 * f[7 * LANES + i])
            )
    out = factor[step * LANES : (step + 1) * LANES]
    for i in range(LANES):
        value = entry[i] * over
        out[i] = value
        rest[i] -= value * value


@njit(cache=True, fastmath=_FLAGS)
def bound_block(
    bounds: Float32Array, rests: Float32Array, weights: Float32Array, slacks: Float32Array, b: int
) -> float:
    """Bound the conditional variances of a block from above; return the largest bound, at least -1."""
    bound, rest, weight, slack = bounds[b], rests[b], weights[b], slacks[b]
    for i in range(LANES):
        bound[i] = rest[i] * weight[i] + slack[i]
    best = np.float32(-1.0)
    for i in range(LANES):
        best = max(best, bound[i])
    return float(best)


@njit(cache=True, fastmath=_FLAGS)
def largest(bounds: Float32Array, b: int) -> float:
    """Return a block's largest bound, at least -1."""
    bound = bounds[b]
    best = np.float32(-1.0)
    for i in range(LANES):
        best = max(best, bound[i])
    return float(best)


@njit(cache=True)
def first_at_least(bounds: Float32Array, value: float, b: int) -> int:
    """Return the first lane of a block whose bound is at least ``value``; `LANES` if none is."""
    bound = bounds[b]
    for i in range(LANES):
        if bound[i] >= value:
            return i
    return LANES


@njit(cache=True, fastmath=_FLAGS)
def count_at_least(bounds: Float32Array, value: float, b: int) -> int:
    """Return how many bounds of a block are at least ``value``."""
    bound, low = bounds[b], np.float32(value)
    n = np.int32(0)
    for i in range(LANES):
        n += np.int32(bound[i] >= low)
    return int(n)
