"""Rows of exponentially decayed counters, one value per half-life and column; decay happens at the read.

A row remembers a base time; a contribution made at ``t`` adds ``2 ** ((t - base) / half_life)``, and a read at ``now``
multiplies by ``2 ** (-(now - base) / half_life)`` (forward decay: Cormode, Shkapenyuk, Srivastava and Xu, 2009). So
late events need no care, nothing has to be touched as time goes by, and an amount that is taken back as of the time at
which it was added leaves what others added, up to the rounding of float32 (from which rows: the caller must know). When
contributions become large the base is moved. A half-life of 0 means "forever": plain counts, exact up to 2 ** 24
(float32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.stores.fold import Arrays

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_MOVE_BASE_AFTER: Final = 40.0
"""Half-lives between a row's base and a contribution; 2 ** 40 leaves float32 room for 2 ** 87 of them."""


class DecayedArrays(NamedTuple):
    """The rows, as kernels take them.

    Attributes
    ----------
    values
        Shape (n_rows, n_half_lives, n_columns), float32, as of ``base_ms``.
    base_ms
        Shape (n_rows,), int64 epoch milliseconds; 0 is an empty row.
    rate_per_ms
        Shape (n_half_lives,), float64: 1 / half-life, 0 for "forever".
    """

    values: Float32Array
    base_ms: Int64Array
    rate_per_ms: Float64Array


@njit(cache=True)
def decayed_add(rows: DecayedArrays, row: int, column: int, amount: float, at_ms: int) -> None:
    """Add ``amount`` (negative: take it back) at a time; values never fall below 0."""
    if rows.base_ms[row] == 0:
        rows.base_ms[row] = max(at_ms, 1)
    n_half_lives = len(rows.rate_per_ms)
    elapsed_ms = at_ms - rows.base_ms[row]
    for h in range(n_half_lives):
        if elapsed_ms * rows.rate_per_ms[h] > _MOVE_BASE_AFTER:
            for i in range(n_half_lives):
                shrink = 2.0 ** (-elapsed_ms * rows.rate_per_ms[i])
                for c in range(rows.values.shape[2]):
                    rows.values[row, i, c] = np.float32(rows.values[row, i, c] * shrink)
            rows.base_ms[row] = at_ms
            elapsed_ms = 0
            break
    for h in range(n_half_lives):
        rate = rows.rate_per_ms[h]
        weight = 2.0 ** (elapsed_ms * rate) if rate > 0.0 else 1.0
        value = rows.values[row, h, column] + amount * weight
        rows.values[row, h, column] = np.float32(max(value, 0.0))


@njit(cache=True)
def decayed_clear(rows: DecayedArrays, row: int) -> None:
    """Empty a row."""
    rows.values[row] = 0.0
    rows.base_ms[row] = 0


@njit(cache=True)
def decayed_move(rows: DecayedArrays, source: int, target: int) -> None:
    """Move a row over another; the source is empty afterwards."""
    if source != target:
        for h in range(rows.values.shape[1]):
            for c in range(rows.values.shape[2]):
                rows.values[target, h, c] = rows.values[source, h, c]
        rows.base_ms[target] = rows.base_ms[source]
    decayed_clear(rows, source)


@njit(cache=True)
def _read(rows: DecayedArrays, wanted: Int32Array, now_ms: int) -> Float32Array:
    n_half_lives, n_columns = rows.values.shape[1], rows.values.shape[2]
    out = np.empty((len(wanted), n_half_lives, n_columns), dtype=np.float32)
    for i in range(len(wanted)):
        row = wanted[i]
        if row < 0:
            out[i] = 0.0
            continue
        elapsed_ms = now_ms - rows.base_ms[row]
        for h in range(n_half_lives):
            rate = rows.rate_per_ms[h]
            factor = np.float32(2.0 ** (-elapsed_ms * rate)) if rate > 0.0 else np.float32(1.0)
            for c in range(n_columns):
                out[i, h, c] = rows.values[row, h, c] * factor
    return out


@njit(cache=True)
def _read_last(rows: DecayedArrays, wanted: Int32Array, now_ms: int) -> Float32Array:
    last, n_columns = rows.values.shape[1] - 1, rows.values.shape[2]
    rate = rows.rate_per_ms[last]
    out = np.empty((len(wanted), n_columns), dtype=np.float32)
    for i in range(len(wanted)):
        row = wanted[i]
        if row < 0:
            out[i] = 0.0
            continue
        factor = np.float32(2.0 ** (-(now_ms - rows.base_ms[row]) * rate)) if rate > 0.0 else np.float32(1.0)
        for c in range(n_columns):
            out[i, c] = rows.values[row, last, c] * factor
    return out


class DecayedRows:
    """Owner of rows of decayed counters.

    Parameters
    ----------
    half_lives_ms
        In milliseconds; 0 is "forever".
    n_columns
        What is counted.
    n_rows
        Rows to begin with.
    """

    def __init__(self, half_lives_ms: Sequence[int], n_columns: int, *, n_rows: int = 64) -> None:
        rates = np.array([1.0 / ms if ms else 0.0 for ms in half_lives_ms], dtype=np.float64)
        self.arrays_for_kernels = DecayedArrays(
            values=np.zeros((n_rows, len(rates), n_columns), dtype=np.float32),
            base_ms=np.zeros(n_rows, dtype=np.int64),
            rate_per_ms=rates,
        )

    def __len__(self) -> int:
        return len(self.arrays_for_kernels.base_ms)

    def read(self, rows: Int32Array, now_ms: int) -> Float32Array:
        """Return the values of rows as of ``now_ms``, shape (n, n_half_lives, n_columns); zeros where a row is -1."""
        return _read(self.arrays_for_kernels, rows, now_ms)

    def read_last(self, rows: Int32Array, now_ms: int) -> Float32Array:
        """Return what `read` does for the last half-life alone, shape (n, n_columns)."""
        return _read_last(self.arrays_for_kernels, rows, now_ms)

    def grow(self, n_rows: int) -> None:
        """Make room for ``n_rows`` rows."""
        old = self.arrays_for_kernels
        values = np.zeros((n_rows, *old.values.shape[1:]), dtype=np.float32)
        values[: len(old.values)] = old.values
        base_ms = np.zeros(n_rows, dtype=np.int64)
        base_ms[: len(old.base_ms)] = old.base_ms
        self.arrays_for_kernels = old._replace(values=values, base_ms=base_ms)

    def arrays(self, prefix: str) -> Arrays:
        """Return the state for a checkpoint."""
        rows = self.arrays_for_kernels
        return {f"{prefix}.values": rows.values, f"{prefix}.base_ms": rows.base_ms}

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over arrays written by `arrays`; the half-lives stay those of the configuration."""
        self.arrays_for_kernels = self.arrays_for_kernels._replace(
            values=arrays[f"{prefix}.values"], base_ms=arrays[f"{prefix}.base_ms"]
        )
