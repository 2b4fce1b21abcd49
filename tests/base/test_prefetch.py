"""Hints to the processor: they are there, change nothing, and harm nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core.errors import TypingError

from millrace.base.int_table import IntTable
from millrace.base.kernels import njit
from millrace.base.prefetch import prefetch, prefetch_slots


@njit
def summed(values: np.ndarray, rows: np.ndarray) -> float:
    total = 0.0
    for i in range(len(rows)):
        prefetch(values, rows[i] * values.shape[1])
    for i in range(len(rows)):
        total += values[rows[i], 0]
    return total


def test_a_kernel_that_fetches_ahead_has_the_instruction_and_the_same_answer() -> None:
    values, rows = np.arange(12.0).reshape(4, 3), np.array([3, 0, 2])
    assert summed(values, rows) == 9.0 + 0.0 + 6.0
    assert all("llvm.prefetch" in text for text in summed.inspect_llvm().values())


def test_an_address_that_is_not_there_is_no_error() -> None:
    @njit
    def beyond(values: np.ndarray) -> float:
        prefetch(values, 1 << 40)
        prefetch(values, -(1 << 40))
        return values[0]

    assert beyond(np.array([7.0])) == 7.0


def test_only_arrays_in_c_order_can_be_fetched_by_number() -> None:
    with pytest.raises(TypingError):
        summed(np.asfortranarray(np.ones((4, 3))), np.array([0]))


def test_fetching_the_places_of_keys_changes_no_table() -> None:
    fresh = njit(prefetch_slots.py_func)  # what comes from the cache cannot be looked into
    table = IntTable()
    table.put(5, 50)
    before = table.keys.tobytes(), table.values.tobytes()
    fresh(table.keys, table.values, np.array([5, 0, -7, 2**62]))
    assert (table.keys.tobytes(), table.values.tobytes()) == before
    assert all("llvm.prefetch" in text for text in fresh.inspect_llvm().values())
