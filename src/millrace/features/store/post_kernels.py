"""Rows of features in one pass: counters of many posts and authors, copied to where they belong.

What each number is, `millrace.stores.counters` and `millrace.stores.windows` say; tests hold these kernels against
them, bit for bit.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, table_get
from millrace.base.kernels import njit
from millrace.stores.decayed_rows import DecayedArrays, Float32Array
from millrace.stores.window_kernels import SumArrays


@njit(cache=True)
def write_windows(out: Float32Array, at: int, of: SumArrays, ids: Int64Array) -> None:
    """Write window sums of ids into columns from ``at`` on, as `Windows.read` gives them."""
    n_windows, n_columns = of.sums.shape[1], of.sums.shape[2]
    # One pass per kind of random access: the processor then waits for many rows at a time.
    rows = np.empty(len(ids), dtype=np.int64)
    for i in range(len(ids)):
        rows[i] = table_get(of.keys, of.values, ids[i])
    for i in range(len(ids)):
        if rows[i] < 0:
            out[i, at : at + n_windows * n_columns] = 0.0
            continue
        for w in range(n_windows):
            start = at + w * n_columns
            for c in range(n_columns):
                out[i, start + c] = max(np.float32(of.sums[rows[i], w, c] * 0.001), np.float32(0.0))


@njit(cache=True)
def write_decayed(out: Float32Array, at: int, rows: DecayedArrays, wanted: Int32Array, now_ms: int) -> None:
    """Write decayed counters of rows (-1: zeros) into columns from ``at`` on, as `DecayedRows.read` gives them."""
    n_half_lives, n_columns = rows.values.shape[1], rows.values.shape[2]
    for i in range(len(wanted)):
        row = wanted[i]
        if row < 0:
            out[i, at : at + n_half_lives * n_columns] = 0.0
            continue
        elapsed_ms = now_ms - rows.base_ms[row]
        for h in range(n_half_lives):
            rate = rows.rate_per_ms[h]
            factor = np.float32(2.0 ** (-elapsed_ms * rate)) if rate > 0.0 else np.float32(1.0)
            start = at + h * n_columns
            for c in range(n_columns):
                out[i, start + c] = rows.values[row, h, c] * factor


@njit(cache=True)
def write_rates(out: Float32Array, at: int, counts_at: int, n_columns: int, rated: Int64Array, prior: float) -> None:
    """Write the rates of some columns of counts that are in the rows already; the last of those are impressions."""
    for i in range(len(out)):
        per = np.float32(1.0) / (out[i, counts_at + n_columns - 1] + np.float32(prior))
        for k in range(len(rated)):
            out[i, at + k] = out[i, counts_at + rated[k]] * per
