"""FTRL-proximal, per coordinate, over a table of hashed weights with one column a head (McMahan et al., KDD 2013).

A row's prediction is the sum of the weights of its slots, added to log-odds that are given. The gradient of the log
loss by each of those weights is ``p - y``. An action that comes after its look has been learned as "nothing happened"
is made good by a second step with the gradient ``-1``, the difference of the two: in the sum every row counts once,
with its last label, and nothing waits.

Evidence ages: before a slot is touched, its sums are halved for every ``half_life_h`` since it was touched last, so
that a table never stops learning.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.kernels import njit
from millrace.features.hashed_crosses import Int32Array
from millrace.inference.near_line_layer import MAX_FAST_SHIFT, Float32Array

Float64Array = npt.NDArray[np.float64]


class FtrlSettings(NamedTuple):
    """McMahan's alpha, beta, l1 and l2, and how evidence ages."""

    alpha: float
    beta: float
    l1: float
    l2: float
    half_life_h: float


class FtrlTable(NamedTuple):
    """The learner's sums and weights.

    Attributes
    ----------
    z, n, weights
        Shape (n_slots, n_heads), float32: McMahan's z and n, and the weights that follow from them.
    touched_h
        Shape (n_slots,), float64: when a slot was touched last, in hours.
    is_new
        Shape (n_slots,), bool: touched since somebody asked.
    """

    z: Float32Array
    n: Float32Array
    weights: Float32Array
    touched_h: Float64Array
    is_new: npt.NDArray[np.bool_]


def ftrl_table(n_slots: int, n_heads: int) -> FtrlTable:
    """Return a table that has learned nothing."""
    shape = (n_slots, n_heads)
    return FtrlTable(
        np.zeros(shape, dtype=np.float32),
        np.zeros(shape, dtype=np.float32),
        np.zeros(shape, dtype=np.float32),
        np.zeros(n_slots, dtype=np.float64),
        np.zeros(n_slots, dtype=np.bool_),
    )


def ftrl_arrays(table: FtrlTable) -> dict[str, npt.NDArray[Any]]:
    """Return what a table is kept as."""
    return {"z": table.z, "n": table.n, "weights": table.weights, "touched_h": table.touched_h}


def ftrl_from(arrays: Mapping[str, npt.NDArray[Any]]) -> FtrlTable:
    """Return the table of `ftrl_arrays`."""
    z, n, weights, touched_h = (arrays[name].copy() for name in ("z", "n", "weights", "touched_h"))
    return FtrlTable(z, n, weights, touched_h, np.zeros(len(z), dtype=np.bool_))


@njit(cache=True)
def _fast_probs(
    table: FtrlTable, slots: Int32Array, base: Float32Array, is_learned: npt.NDArray[np.bool_], out: Float32Array
) -> None:
    for i in range(len(slots)):
        for h in range(base.shape[1]):
            if not is_learned[h]:
                continue
            total = 0.0
            for f in range(slots.shape[1]):
                total += table.weights[slots[i, f], h]
            total = min(max(total, -MAX_FAST_SHIFT), MAX_FAST_SHIFT)
            p = min(max(float(base[i, h]), 1e-6), 1.0 - 1e-6)
            z = math.log(p) - math.log1p(-p) + total
            out[i, h] = 1.0 / (1.0 + math.exp(-z))


def fast_probs(
    table: FtrlTable, slots: Int32Array, base: Float32Array, is_learned: npt.NDArray[np.bool_]
) -> Float32Array:
    """Return what the table makes of probabilities, shape (n, n_heads); heads that are not learned stay as they are."""
    out = base.copy()
    _fast_probs(table, slots, base, is_learned, out)
    return out


@njit(cache=True)
def ftrl_step(
    table: FtrlTable,
    settings: FtrlSettings,
    slots: Int32Array,
    gradients: Float32Array,
    now_h: float,
) -> None:
    """Take one row's step.

    Parameters
    ----------
    table, settings
        What learns, and how.
    slots
        Shape (n_fields,): the row's.
    gradients
        Shape (n_heads,): of the loss by the row's log-odds; 0 leaves a head alone.
    now_h
        Event time in hours.
    """
    alpha, beta, l1, l2 = settings.alpha, settings.beta, settings.l1, settings.l2
    for f in range(len(slots)):
        s = slots[f]
        age_h = now_h - table.touched_h[s]
        fade = 2.0 ** (-age_h / settings.half_life_h) if age_h > 0.0 else 1.0
        table.touched_h[s] = max(now_h, table.touched_h[s])
        table.is_new[s] = True
        for h in range(len(gradients)):
            z, n, w = table.z[s, h] * fade, table.n[s, h] * fade, table.weights[s, h]
            g = gradients[h]
            if g != 0.0:
                sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / alpha
                z += g - sigma * w
                n += g * g
            elif n == 0.0:
                continue
            rate = (beta + math.sqrt(n)) / alpha + l2
            w = 0.0 if abs(z) <= l1 else -(z - math.copysign(l1, z)) / rate
            table.z[s, h], table.n[s, h], table.weights[s, h] = z, n, w


def ftrl_step_reference(
    table: FtrlTable, settings: FtrlSettings, slots: Int32Array, gradients: Float32Array, now_h: float
) -> None:
    """Do the same as `ftrl_step`, in NumPy."""
    for s in slots.tolist():
        age_h = max(now_h - float(table.touched_h[s]), 0.0)
        fade = 2.0 ** (-age_h / settings.half_life_h)
        table.touched_h[s] = max(now_h, float(table.touched_h[s]))
        table.is_new[s] = True
        z, n = table.z[s].astype(np.float64) * fade, table.n[s].astype(np.float64) * fade
        w, g = table.weights[s].astype(np.float64), gradients.astype(np.float64)
        grown = n + g * g
        z = z + g - (np.sqrt(grown) - np.sqrt(n)) / settings.alpha * w
        rate = (settings.beta + np.sqrt(grown)) / settings.alpha + settings.l2
        found = np.where(np.abs(z) <= settings.l1, 0.0, -(z - np.copysign(settings.l1, z)) / rate)
        is_known = grown > 0
        table.z[s] = np.where(is_known, z, table.z[s])
        table.n[s] = np.where(is_known, grown, table.n[s])
        table.weights[s] = np.where(is_known, found, w)
