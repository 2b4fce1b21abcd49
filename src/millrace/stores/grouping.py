"""Grouping ids as a walk meets them: a small hash table from id to place, made for one walk and thrown away.

The walk keeps an array of the ids met and arrays of what it counts; the table holds place plus 1, 0 for a free slot::

    places = group_table(most_ids)
    slot = group_slot(places, ids, key)
    if places[slot] == 0:
        ids[n] = key
        n += 1
        places[slot] = n
    place = places[slot] - 1
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, slot_of
from millrace.base.kernels import njit


@njit(cache=True)
def group_table(most_ids: int) -> Int32Array:
    """Return an empty table with room for so many ids, half of it free."""
    size = 64
    while size < 2 * most_ids:
        size *= 2
    return np.zeros(size, dtype=np.int32)


@njit(cache=True, inline="always")
def group_slot(places: Int32Array, ids: Int64Array, key: int) -> int:
    """Return the slot that holds a key's place, or the free one where it belongs."""
    mask = np.int64(len(places) - 1)
    slot = slot_of(key, mask)
    while places[slot] != 0 and ids[places[slot] - 1] != key:
        slot = (slot + 1) & mask
    return slot
