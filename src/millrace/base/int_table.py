"""An open-addressing hash table from non-zero int64 keys to int32 values, as two NumPy arrays.

Because it is nothing but arrays it goes into checkpoints as it is, can be mapped copy-on-write by many
processes, and is read from Numba kernels without a call into Python. Linear probing, load at most 1/2, removal
by backward shift (no tombstones, so a table never decays). Kernels take the arrays; `IntTable` owns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit

Int32Array = npt.NDArray[np.int32]

MISSING: Final = -1
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(32)


@njit(cache=True, inline="always")
def slot_of(key: np.int64, mask: np.int64) -> np.int64:
    """Return the home slot of a key (Fibonacci hashing; ids are hashes already, tests use small ints)."""
    return np.int64((np.uint64(key) * _MIX) >> _SHIFT) & mask


@njit(cache=True)
def table_find(keys: Int64Array, key: np.int64) -> np.int64:
    """Return the slot that holds ``key``, or -1."""
    mask = np.int64(len(keys) - 1)
    slot = slot_of(key, mask)
    while keys[slot] != 0:
        if keys[slot] == key:
            return slot
        slot = (slot + 1) & mask
    return np.int64(-1)


@njit(cache=True)
def table_get(keys: Int64Array, values: Int32Array, key: np.int64) -> np.int64:
    """Return the value of ``key``, or -1."""
    slot = table_find(keys, key)
    if slot < 0:
        return np.int64(-1)
    return np.int64(values[slot])


@njit(cache=True)
def table_put(keys: Int64Array, values: Int32Array, key: np.int64, value: np.int64) -> bool:
    """Set ``key`` to ``value``; return True if the key is new. The caller keeps the load at most 1/2."""
    mask = np.int64(len(keys) - 1)
    slot = slot_of(key, mask)
    while keys[slot] != 0:
        if keys[slot] == key:
            values[slot] = value
            return False
        slot = (slot + 1) & mask
    keys[slot] = key
    values[slot] = value
    return True


@njit(cache=True)
def table_remove(keys: Int64Array, values: Int32Array, key: np.int64) -> bool:
    """Remove ``key`` and close the gap by shifting later members of its run back."""
    hole = table_find(keys, key)
    if hole < 0:
        return False
    mask = np.int64(len(keys) - 1)
    scan = hole
    while True:
        scan = (scan + 1) & mask
        if keys[scan] == 0:
            break
        home = slot_of(keys[scan], mask)
        # The entry may move into the hole only if its home does not lie between the two (cyclically).
        if ((scan - home) & mask) >= ((scan - hole) & mask):
            keys[hole] = keys[scan]
            values[hole] = values[scan]
            hole = scan
    keys[hole] = 0
    values[hole] = 0
    return True


@njit(cache=True)
def table_get_many(keys: Int64Array, values: Int32Array, wanted: Int64Array) -> Int32Array:
    """Return the values of many keys, -1 where missing; shape (n,)."""
    out = np.empty(len(wanted), dtype=np.int32)
    for i in range(len(wanted)):
        out[i] = table_get(keys, values, wanted[i])
    return out


@njit(cache=True)
def _rehash(keys: Int64Array, values: Int32Array, new_keys: Int64Array, new_values: Int32Array) -> None:
    for i in range(len(keys)):
        if keys[i] != 0:
            table_put(new_keys, new_values, keys[i], np.int64(values[i]))


class IntTable:
    """Owner of one table: grows it, counts it, hands its arrays to kernels.

    Parameters
    ----------
    capacity
        Slots to begin with, rounded up to a power of two.
    """

    def __init__(self, capacity: int = 64) -> None:
        size = 1 << max(capacity - 1, 1).bit_length()
        self.keys: Int64Array = np.zeros(size, dtype=np.int64)
        self.values: Int32Array = np.zeros(size, dtype=np.int32)
        self.n = np.zeros(1, dtype=np.int64)  # an array, so that kernels can count while they insert

    def __len__(self) -> int:
        return int(self.n[0])

    def is_full(self, n_more: int = 1) -> bool:
        """Whether ``n_more`` further keys would push the load over 1/2."""
        return (int(self.n[0]) + n_more) * 2 > len(self.keys)

    def grow(self) -> None:
        """Double the slots. Called at a point that depends on the keys alone, so that replay gives equal arrays."""
        new_keys = np.zeros(len(self.keys) * 2, dtype=np.int64)
        new_values = np.zeros(len(self.values) * 2, dtype=np.int32)
        _rehash(self.keys, self.values, new_keys, new_values)
        self.keys, self.values = new_keys, new_values

    def get(self, key: int) -> int:
        """Return the value of ``key``, or -1."""
        return int(table_get(self.keys, self.values, np.int64(key)))

    def get_many(self, wanted: Int64Array) -> Int32Array:
        """Return the values of many keys, shape (n,), -1 where missing."""
        return table_get_many(self.keys, self.values, wanted)

    def put(self, key: int, value: int) -> bool:
        """Set ``key`` to ``value``; return True if the key is new."""
        if self.is_full():
            self.grow()
        is_new = bool(table_put(self.keys, self.values, np.int64(key), np.int64(value)))
        self.n[0] += is_new
        return is_new

    def remove(self, key: int) -> bool:
        """Remove ``key``; return whether it was there."""
        removed = bool(table_remove(self.keys, self.values, np.int64(key)))
        self.n[0] -= removed
        return removed

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[np.generic]]:
        """Return the state for a checkpoint, names beginning with ``prefix``."""
        return {f"{prefix}.keys": self.keys, f"{prefix}.values": self.values, f"{prefix}.n": self.n}

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Take over arrays written by `arrays`."""
        self.keys = arrays[f"{prefix}.keys"]  # type: ignore[assignment]
        self.values = arrays[f"{prefix}.values"]  # type: ignore[assignment]
        self.n = arrays[f"{prefix}.n"]  # type: ignore[assignment]
