"""Predictions in sixteen bits, for the many rows of a trace that nobody was shown.

Predictions are never negative, so all sixteen bits are theirs: of each column the 32 octaves up to its largest value,
2,048 steps each. That is the upper part of a single's own bits, counted from a base of the column's: within 2^-12 of
what it was. What lies more than nine decimal orders below the column's largest value becomes 0.
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
Int32Array = npt.NDArray[np.int32]

PRECISION: Final = 2.0**-12

_STEP_BITS: Final = 12
_HALF_STEP: Final = 1 << (_STEP_BITS - 1)
_EXPONENT_AT: Final = 23
_N_OCTAVES: Final = 32
_MOST: Final = (1 << 16) - 1

_BITS = types.Array(types.int32, 2, "C", readonly=True)
_IDS = types.Array(types.int64, 1, "C", readonly=True)


@njit([(_BITS, _IDS, _IDS)], cache=True)
def _to_codes(bits: Int32Array, rows: Int64Array, columns: Int64Array) -> tuple[Uint16Array, Int32Array]:
    n_columns = len(columns)
    words = np.empty((len(rows), n_columns), dtype=np.int32)
    bases = np.zeros(n_columns, dtype=np.int32)
    for i in range(len(rows)):
        for j in range(n_columns):
            words[i, j] = bits[rows[i], columns[j]]
            bases[j] = max(bases[j], words[i, j])
    for j in range(n_columns):
        bases[j] = ((bases[j] >> _EXPONENT_AT) - (_N_OCTAVES - 1)) << _EXPONENT_AT
    codes = np.empty((len(rows), n_columns), dtype=np.uint16)
    for i in range(len(rows)):
        for j in range(n_columns):
            code = (np.int64(words[i, j]) - bases[j] + _HALF_STEP) >> _STEP_BITS
            code = min(max(code, 0), _MOST)
            codes[i, j] = code if words[i, j] > 0 else 0
    return codes, bases


def to_codes(values: Float32Array, rows: Int64Array, columns: Int64Array) -> tuple[Uint16Array, Int32Array]:
    """Return some rows and columns of a matrix in sixteen bits.

    Parameters
    ----------
    values
        Shape (n, m), float32, finite and not negative.
    rows, columns
        Which of them, shapes (k,) and (l,).

    Returns
    -------
    tuple
        The codes, shape (k, l), uint16, and each column's base, shape (l,), int32: see `from_codes`.
    """
    return _to_codes(np.ascontiguousarray(values).view(np.int32), rows, columns)


def to_codes_reference(values: Float32Array, rows: Int64Array, columns: Int64Array) -> tuple[Uint16Array, Int32Array]:
    """Return the same as `to_codes`, in NumPy."""
    words = values[np.ix_(rows, columns)].view(np.int32).astype(np.int64)
    bases = ((words.max(axis=0, initial=0) >> _EXPONENT_AT) - (_N_OCTAVES - 1)) << _EXPONENT_AT
    codes = np.clip((words - bases + _HALF_STEP) >> _STEP_BITS, 0, _MOST)
    return np.where(words > 0, codes, 0).astype(np.uint16), bases.astype(np.int32)


def from_codes(codes: Uint16Array, bases: Int32Array) -> Float32Array:
    """Return the values again, float32, of the same shape."""
    words = (codes.astype(np.int64) << _STEP_BITS) + bases
    return np.where(codes > 0, np.maximum(words, 0), 0).astype(np.int32).view(np.float32)
