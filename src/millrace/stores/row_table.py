"""`RowTable`: int64 keys to dense row numbers, with rows that are let go handed out again.

Stores keep one row of their arrays per post, author or user. The table finds a key's row, ``keys_by_row`` the key
of a row, and rows of removed keys form a chain of free ones: the arrays of a store stay as short as the most keys it
ever held at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, IntTable, table_get, table_get_many, table_put, table_remove
from millrace.base.kernels import njit
from millrace.stores.fold import Arrays
from millrace.stores.slab_lists import doubled

N_LIVE: Final = 0
N_USED: Final = 1
FIRST_FREE: Final = 2


class Rows(NamedTuple):
    """The arrays of a table, as kernels take them.

    Attributes
    ----------
    keys, values
        The hash table from key to row: `millrace.base.int_table`.
    keys_by_row
        Shape (capacity,), int64: the key of each row, 0 for a free one.
    next_free
        Shape (capacity,), int32: of a free row, the next free row plus 1.
    state
        Shape (3,), int64: how many rows are live, how many were ever used, the first free row plus 1.
    """

    keys: Int64Array
    values: Int32Array
    keys_by_row: Int64Array
    next_free: Int32Array
    state: Int64Array


@njit(cache=True, inline="always")
def rows_find(rows: Rows, key: int) -> int:
    """Return the row of a key, or -1."""
    return int(table_get(rows.keys, rows.values, np.int64(key)))


@njit(cache=True, inline="always")
def rows_fit(rows: Rows, n_more: int) -> bool:
    """Whether ``n_more`` new keys have room."""
    n_live = rows.state[N_LIVE] + n_more
    return bool(n_live <= len(rows.keys_by_row) and n_live * 2 <= len(rows.keys))


@njit(cache=True)
def rows_take(rows: Rows, key: int) -> int:
    """Return a row for a new, non-zero key. Ask `rows_fit` first."""
    state = rows.state
    if state[FIRST_FREE] != 0:
        row = state[FIRST_FREE] - 1
        state[FIRST_FREE] = rows.next_free[row]
        rows.next_free[row] = 0
    else:
        row = state[N_USED]
        state[N_USED] = row + 1
    table_put(rows.keys, rows.values, np.int64(key), np.int64(row))
    rows.keys_by_row[row] = key
    state[N_LIVE] += 1
    return int(row)


@njit(cache=True)
def rows_drop(rows: Rows, row: int) -> None:
    """Let a live row go; its key is unknown from now on."""
    table_remove(rows.keys, rows.values, rows.keys_by_row[row])
    rows.keys_by_row[row] = 0
    rows.next_free[row] = rows.state[FIRST_FREE]
    rows.state[FIRST_FREE] = row + 1
    rows.state[N_LIVE] -= 1


class RowTable:
    """Owner of one table: grows it, hands its arrays to kernels and checkpoints.

    Parameters
    ----------
    capacity
        Rows to begin with, a power of two.
    """

    def __init__(self, capacity: int = 64) -> None:
        self.rows = Rows(
            keys=np.zeros(2 * capacity, dtype=np.int64),
            values=np.zeros(2 * capacity, dtype=np.int32),
            keys_by_row=np.zeros(capacity, dtype=np.int64),
            next_free=np.zeros(capacity, dtype=np.int32),
            state=np.zeros(3, dtype=np.int64),
        )

    def __len__(self) -> int:
        return int(self.rows.state[N_LIVE])

    @property
    def capacity(self) -> int:
        """How many rows there is room for; the length of a store's own arrays."""
        return len(self.rows.keys_by_row)

    @property
    def n_used(self) -> int:
        """One more than the highest row ever used."""
        return int(self.rows.state[N_USED])

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, free room included."""
        return sum(array.nbytes for array in self.rows)

    def row(self, key: int) -> int:
        """Return the row of a key, or -1."""
        return int(table_get(self.rows.keys, self.rows.values, np.int64(key)))

    def find(self, keys: Int64Array) -> Int32Array:
        """Return the rows of many keys, shape (n,), int32, -1 where unknown."""
        return table_get_many(self.rows.keys, self.rows.values, keys)

    def is_full(self, n_more: int) -> bool:
        """Whether ``n_more`` new keys would have no room."""
        return not rows_fit(self.rows, n_more)

    def grow(self) -> None:
        """Double the rows and the hash table."""
        rows = self.rows
        table = IntTable(2)
        table.keys, table.values = rows.keys, rows.values
        table.grow()
        self.rows = rows._replace(
            keys=table.keys,
            values=table.values,
            keys_by_row=doubled(rows.keys_by_row),
            next_free=doubled(rows.next_free),
        )

    def arrays(self, prefix: str) -> Arrays:
        """Return the state for a checkpoint, names beginning with ``prefix``."""
        return {f"{prefix}.{field}": array for field, array in self.rows._asdict().items()}

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over arrays written by `arrays`."""
        self.rows = Rows(*(arrays[f"{prefix}.{field}"] for field in Rows._fields))
