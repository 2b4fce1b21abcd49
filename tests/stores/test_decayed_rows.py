"""Decayed counters by row: the longest memory alone is the last of all."""

import numpy as np

from millrace.stores.decayed_rows import DecayedRows, decayed_add

HOUR_MS = 3_600_000


def rows_with(half_lives_ms: tuple[int, ...]) -> DecayedRows:
    rows = DecayedRows(half_lives_ms, 2, n_rows=3)
    decayed_add(rows.arrays_for_kernels, 0, 0, 4.0, HOUR_MS)
    decayed_add(rows.arrays_for_kernels, 2, 1, 8.0, 2 * HOUR_MS)
    return rows


def test_the_last_half_life_is_read_by_itself() -> None:
    wanted = np.array([2, -1, 0], dtype=np.int32)
    found = rows_with((0, HOUR_MS)).read_last(wanted, 3 * HOUR_MS)
    assert found.tolist() == [[0.0, 4.0], [0.0, 0.0], [1.0, 0.0]]


def test_what_counts_for_ever_does_not_fade() -> None:
    rows, wanted = rows_with((HOUR_MS, 0)), np.array([0, 1, 2], dtype=np.int32)
    assert rows.read_last(wanted, 99 * HOUR_MS).tolist() == [[4.0, 0.0], [0.0, 0.0], [0.0, 8.0]]
    np.testing.assert_array_equal(rows.read_last(wanted, 5 * HOUR_MS), rows.read(wanted, 5 * HOUR_MS)[:, -1])
