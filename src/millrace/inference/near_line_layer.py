"""`NearLineLayer`: what is changed about a ranker's predictions within seconds: calibration, and the fast layer's part.

For every head::

    z = logit(p)                     the ranker's own log-odds
    z = slope z + shift              where the head's near-line calibration has proved its worth
    z = z + mix (sum of the weights) where the fast layer has: the weights of the candidate's hashed crosses, bounded
    p = sigmoid(z)

A head for which neither has, and every continuous one, is left as it is, bit for bit.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.kernels import njit
from millrace.features.hashed_crosses import N_FIELDS, Int32Array

Float32Array = npt.NDArray[np.float32]

LEAST: Final = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""

MAX_FAST_SHIFT: Final = 3.0
"""The fast layer moves log-odds by at most so much."""


class NearLineLayer(NamedTuple):
    """One ranker's near-line layer.

    Attributes
    ----------
    slopes, shifts
        Shape (n_heads,), float32: Platt's, of the log-odds.
    is_calibrated
        Shape (n_heads,), uint8: whether they are applied.
    fast_gates
        Shape (n_heads,), float32, 0 or 1: whether the fast layer is.
    weights
        Shape (n_slots, n_heads), float32.
    """

    slopes: Float32Array
    shifts: Float32Array
    is_calibrated: npt.NDArray[np.uint8]
    fast_gates: Float32Array
    weights: Float32Array

    @property
    def changes_nothing(self) -> bool:
        """Whether every prediction stays as it is."""
        return not (self.is_calibrated.any() or self.fast_gates.any())


@njit(cache=True)
def _correct(
    probs: Float32Array,
    slots: Int32Array,
    slopes: Float32Array,
    shifts: Float32Array,
    is_calibrated: npt.NDArray[np.uint8],
    mixes: Float32Array,
    weights: Float32Array,
    out: Float32Array,
    fast: Float32Array,
) -> None:
    n_heads, n_fields = len(slopes), slots.shape[1]
    for i in range(len(probs)):
        for h in range(n_heads):
            if is_calibrated[h] == 0 and mixes[h] == 0.0:
                continue
            p = min(max(float(probs[i, h]), LEAST), 1.0 - LEAST)
            z = math.log(p) - math.log1p(-p)
            if is_calibrated[h] != 0:
                z = slopes[h] * z + shifts[h]
            if mixes[h] != 0.0:
                total = 0.0
                for f in range(n_fields):
                    total += weights[slots[i, f], h]
                total = mixes[h] * min(max(total, -MAX_FAST_SHIFT), MAX_FAST_SHIFT)
                fast[i, h] = total
                z += total
            out[i, h] = 1.0 / (1.0 + math.exp(-z))


def corrected(
    layer: NearLineLayer,
    probs: Float32Array,
    slots: Int32Array,
    *,
    fast_weight: float = 1.0,
    calibrates: bool = True,
) -> tuple[Float32Array, Float32Array]:
    """Return predictions as a layer changes them, and what of that its fast part did.

    Parameters
    ----------
    layer
        Of the ranker that predicted.
    probs
        Shape (n, n_heads), float32.
    slots
        Of the candidates: `millrace.features.hashed_crosses.cross_slots`.
    fast_weight
        0 to 1: how much of the fast layer is used.
    calibrates
        Whether the calibration is.

    Returns
    -------
    tuple
        The predictions, and the fast layer's additions to the log-odds; both shape (n, n_heads), float32.
    """
    is_calibrated, mixes = _used(layer, fast_weight, calibrates=calibrates)
    out, fast = probs.copy(), np.zeros_like(probs)
    _correct(probs, slots, layer.slopes, layer.shifts, is_calibrated, mixes, layer.weights, out, fast)
    return out, fast


def corrected_reference(
    layer: NearLineLayer,
    probs: Float32Array,
    slots: Int32Array,
    *,
    fast_weight: float = 1.0,
    calibrates: bool = True,
) -> tuple[Float32Array, Float32Array]:
    """Return the same as `corrected`, in NumPy."""
    is_calibrated, mixes = _used(layer, fast_weight, calibrates=calibrates)
    p = np.clip(probs.astype(np.float64), LEAST, 1.0 - LEAST)
    z = np.log(p) - np.log1p(-p)
    z = np.where(is_calibrated, layer.slopes * z + layer.shifts, z)
    total = layer.weights[slots].astype(np.float64).sum(axis=1)
    fast = mixes * np.clip(total, -MAX_FAST_SHIFT, MAX_FAST_SHIFT)
    is_changed = (is_calibrated != 0) | (mixes != 0)
    out = np.where(is_changed, 1.0 / (1.0 + np.exp(-(z + fast))), probs)
    return out.astype(np.float32), fast.astype(np.float32)


def _used(layer: NearLineLayer, fast_weight: float, *, calibrates: bool) -> tuple[npt.NDArray[np.uint8], Float32Array]:
    is_calibrated = layer.is_calibrated if calibrates else np.zeros_like(layer.is_calibrated)
    return is_calibrated, (layer.fast_gates * np.float32(fast_weight)).astype(np.float32)


def load_kernels(n_heads: int) -> None:
    """Compile or load the kernel, for the types that serving has: a batch's columns cannot be written."""
    ones = np.ones(n_heads, dtype=np.float32)
    layer = NearLineLayer(ones, ones * 0, np.ones(n_heads, dtype=np.uint8), ones, np.zeros((1, n_heads), np.float32))
    probs = np.full((1, n_heads), 0.5, dtype=np.float32)
    for of_a_batch in (False, True):
        probs.flags.writeable = not of_a_batch
        corrected(layer, probs, np.zeros((1, N_FIELDS), dtype=np.int32))
