"""Ids as rows of an embedding table: two hashes per id, no vocabulary; row 0 is padding.

Two ids that share one row hardly ever share both, so that the sum of the two rows tells them apart (hash embeddings,
Svenstrup et al. 2017). Serving and training share this implementation: wrapping 64-bit arithmetic, one constant a hash.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="no-any-return,return-value"

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit

N_HASHES: Final = 2

_SALTS: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


def id_rows(ids: Int64Array, n_rows: int) -> npt.NDArray[np.int32]:
    """Return the rows of ids, shape (*ids.shape, 2), int32: 1 to ``n_rows - 1``, and 0 for id 0.

    Parameters
    ----------
    ids
        Inside ids of any shape.
    n_rows
        Rows of the table, padding included; at least 2.
    """
    plain = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint64)
    rows = np.empty((*plain.shape, N_HASHES), dtype=np.int32)
    for j, salt in enumerate(_SALTS):
        mixed = plain + salt
        mixed = (mixed ^ (mixed >> _S30)) * _MIX_1
        mixed = (mixed ^ (mixed >> _S27)) * _MIX_2
        mixed ^= mixed >> _S31
        rows[..., j] = 1 + (mixed % np.uint64(n_rows - 1)).astype(np.int32)
    rows[plain == 0] = 0
    return rows


@njit(cache=True, inline="always")
def id_row(plain: int, j: int, n_rows: int) -> int:
    """Return the j-th row of one id, as `id_rows` does; for kernels."""
    if plain == 0:
        return np.int64(0)
    mixed = np.uint64(plain) + (_SALTS[0] if j == 0 else _SALTS[1])
    mixed = (mixed ^ (mixed >> _S30)) * _MIX_1
    mixed = (mixed ^ (mixed >> _S27)) * _MIX_2
    mixed ^= mixed >> _S31
    return np.int64(1) + np.int64(mixed % np.uint64(n_rows - 1))
