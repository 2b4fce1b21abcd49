"""Predictions in sixteen bits, for the many rows of a trace that nobody was shown.

IEEE half precision, each column multiplied by a power of two of its own so that its largest value just fits: eleven
significant bits (2e-4 at most) over more than eight decimal orders below that value; what is smaller becomes 0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import types

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.mixer.value_model.weights import Float32Array

Uint16Array = npt.NDArray[np.uint16]
Uint32Array = npt.NDArray[np.uint32]
Int32Array = npt.NDArray[np.int32]

_LARGEST: Final = 127 + 15
"""Biased exponent of a single of half precision's largest power of two."""

_BITS = types.Array(types.uint32, 2, "C", readonly=True)
_IDS = types.Array(types.int64, 1, "C", readonly=True)


@njit([(_BITS, _IDS, _IDS)], cache=True)
def _to_halves(bits: Uint32Array, rows: Int64Array, columns: Int64Array) -> tuple[Uint16Array, Int32Array]:
    n_columns = len(columns)
    halves = np.empty((len(rows), n_columns), dtype=np.uint16)
    largest = np.zeros(n_columns, dtype=np.uint32)
    words = np.empty((len(rows), n_columns), dtype=np.uint32)
    for i in range(len(rows)):
        for j in range(n_columns):
            word = bits[rows[i], columns[j]]
            words[i, j] = word
            largest[j] = max(largest[j], word & np.uint32(0x7FFFFFFF))
    shifts = np.zeros(n_columns, dtype=np.int32)
    for j in range(n_columns):
        if largest[j] >= 0x800000:
            shifts[j] = _LARGEST - np.int32(largest[j] >> 23)
    moves = (shifts - np.int32(112)) << np.int32(23)
    for i in range(len(rows)):
        for j in range(n_columns):
            size = np.int32(words[i, j] & np.uint32(0x7FFFFFFF))
            moved = np.int32(size + moves[j])
            half = np.int32(moved + np.int32(0xFFF) + ((moved >> np.int32(13)) & np.int32(1))) >> np.int32(13)
            half = min(half, np.int32(0x7BFF))
            half = half if half >= 0x400 and size >= 0x800000 else np.int32(0)
            halves[i, j] = np.uint16(np.uint32(half) | ((words[i, j] >> np.uint32(16)) & np.uint32(0x8000)))
    return halves, shifts


def to_halves(values: Float32Array, rows: Int64Array, columns: Int64Array) -> tuple[Uint16Array, Int32Array]:
    """Return some rows and columns of a matrix in half precision.

    Parameters
    ----------
    values
        Shape (n, m), float32, finite.
    rows, columns
        Which of them, shapes (k,) and (l,).

    Returns
    -------
    tuple
        The bits, shape (k, l), uint16, and each column's power of two, shape (l,), int32: see `from_halves`.
    """
    return _to_halves(np.ascontiguousarray(values).view(np.uint32), rows, columns)


def to_halves_reference(values: Float32Array, rows: Int64Array, columns: Int64Array) -> tuple[Uint16Array, Int32Array]:
    """Return the same as `to_halves`, in NumPy."""
    wanted = values[np.ix_(rows, columns)].astype(np.float64)
    wanted[np.abs(wanted) < np.finfo(np.float32).tiny] *= 0.0  # keeps the sign
    largest = np.abs(wanted).max(axis=0, initial=0.0)
    shifts = np.where(largest > 0, 16 - np.frexp(largest)[1], 0).astype(np.int32)
    scaled = np.ldexp(wanted, shifts)
    rounded = np.clip(scaled, -65_504.0, 65_504.0).astype(np.float16)
    rounded[np.abs(rounded) < np.finfo(np.float16).tiny] *= np.float16(0.0)
    return rounded.view(np.uint16), shifts


def from_halves(halves: Uint16Array, shifts: Int32Array) -> npt.NDArray[np.float64]:
    """Return the values again, float64, of the same shape; each within 2^-11 of what it was."""
    return np.ldexp(halves.view(np.float16).astype(np.float64), -shifts)
