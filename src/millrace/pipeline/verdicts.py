"""`Verdicts`: which filter dropped which row of a group, kept while the group's filters take their turns."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import types

from millrace.base.kernels import njit
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray, IntArray

KEPT: Final = 0
"""The code of a row that nobody dropped."""

_CODES = types.Array(types.int16, 1, "C")
_MASK = types.Array(types.boolean, 1, "A", readonly=True)


@njit([(_CODES, _MASK, types.int64)], cache=True)
def _drop(codes: npt.NDArray[np.int16], keep: BoolArray, code: int) -> int:
    """Give ``code`` to rows that are neither kept nor dropped before; return how many."""
    n_dropped = 0
    for i in range(len(codes)):
        is_dropped = (not keep[i]) and codes[i] == 0
        codes[i] = np.int16(code) if is_dropped else codes[i]
        n_dropped += is_dropped
    return n_dropped


class Verdicts:
    """Rows of one batch and who dropped them.

    Parameters
    ----------
    batch
        What the group's filters look at.

    Attributes
    ----------
    codes
        Shape (n,), int16: 0, or the code of the first stage that dropped the row.
    n_alive
        How many rows nobody dropped.
    """

    def __init__(self, batch: CandidateBatch) -> None:
        self.batch = batch
        self.codes: npt.NDArray[np.int16] = np.zeros(batch.n, dtype=np.int16)
        self.n_alive = batch.n

    def drop(self, keep: BoolArray, code: int) -> int:
        """Take over a filter's mask; return how many rows are alive now."""
        self.n_alive -= _drop(self.codes, keep, code)
        return self.n_alive

    def drop_all(self, code: int) -> None:
        """Drop all rows that are alive."""
        self.codes[self.codes == KEPT] = code
        self.n_alive = 0

    def alive_rows(self) -> IntArray:
        """Return the rows that nobody dropped, in their order."""
        return np.flatnonzero(self.codes == KEPT)
