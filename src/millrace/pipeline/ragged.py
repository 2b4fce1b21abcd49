"""`Ragged`: rows of different lengths as one array of values and one of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """``n`` rows; row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes
    ----------
    values
        All rows, one after the other.
    offsets
        Shape (n + 1,), int64, ascending, beginning with 0.
    """

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, n: int, dtype: np.dtype[Any]) -> Ragged:
        """Return ``n`` empty rows."""
        return cls(np.empty(0, dtype=dtype), np.zeros(n + 1, dtype=np.int64))

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Any]], dtype: np.dtype[Any]) -> Ragged:
        """Return the rows of a list of lists (tests, small inputs)."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return cls(np.array([value for row in rows for value in row], dtype=dtype), offsets)

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """Return the rows of all parts, in order."""
        lengths = np.concatenate([part.lengths for part in parts])
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(np.concatenate([part.values for part in parts]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How many values each row has, shape (n,)."""
        return np.diff(self.offsets)

    def row(self, i: int) -> npt.NDArray[Any]:
        """Return the values of row ``i`` (a view)."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def row_of_value(self) -> npt.NDArray[np.intp]:
        """Return which row each value belongs to, shape (n_values,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def any_by_row(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return for each row whether any of its values is flagged, shape (n,)."""
        return np.bincount(self.row_of_value()[flags], minlength=len(self)) > 0

    def take(self, rows: npt.NDArray[np.intp], axis: int = 0) -> Ragged:  # noqa: ARG002 - as ndarray.take
        """Return the given rows, in the given order."""
        lengths = self.lengths[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        shift = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Ragged(self.values[np.arange(offsets[-1]) + shift], offsets)

    def freeze(self) -> None:
        """Make both arrays read-only."""
        self.values.setflags(write=False)
        self.offsets.setflags(write=False)
