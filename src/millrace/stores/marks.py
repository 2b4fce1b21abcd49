"""Marks: which (viewer, post, action) count already. What makes counters right although events come twice or late.

A mark is a hashed key, a time and a value, in one open-addressing table. Keys are 64-bit mixes of the three ids: with
ten million marks the chance that any two share a key is about three in a million, and the harm one lost count. Marks
older than the retention are swept in slices, so a table holds what the window holds.

For actions the value is whether the action holds; the newest by event time decides, and at equal times the undo. So an
undo that arrives first cancels its do, and a repeat of what holds already changes nothing. For impressions the value is
the viewer's longest dwell on the post and what follows from it (`millrace.stores.dwell`); the time stays that of the
first impression, when the view was counted.

With the time a mark keeps the post's credit at that moment (`millrace.stores.credits`), so that an undo takes back from
those to whom its do was counted.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, slot_of
from millrace.base.kernels import njit
from millrace.stores.fold import Arrays

N_SWEEP_SLICES: Final = 60
"""A full sweep takes this many ticks: one slice of the table a minute, the whole of it in an hour."""

MARK_TIME_SHIFT: Final = 8
MARK_CREDIT_MASK: Final = (1 << MARK_TIME_SHIFT) - 1

_C1: Final = np.uint64(0xBF58476D1CE4E5B9)
_C2: Final = np.uint64(0x94D049BB133111EB)
_C3: Final = np.uint64(0xD6E8FEB86659FD93)
_S27: Final = np.uint64(27)
_S31: Final = np.uint64(31)
_S32: Final = np.uint64(32)


class MarkArrays(NamedTuple):
    """The table, as kernels take it: shape (size,) each; ``n`` is (entries, next slot to sweep).

    ``times`` holds the time and, in the low byte, the credit: see `mark_word`.
    """

    keys: Int64Array
    times: Int64Array
    values: Int32Array
    n: Int64Array


@njit(cache=True, inline="always")
def mark_word(at_ms: int, credit: int) -> int:
    """Return a time and a credit as one word; times have at most 53 bits."""
    return at_ms << MARK_TIME_SHIFT | credit


@njit(cache=True)
def mark_key(viewer_id: int, post_id: int, code: int) -> int:
    """Return the key of (viewer, post, action code): a 64-bit mix, never 0."""
    x = np.uint64(viewer_id) * _C1
    x ^= x >> _S32
    x = (x + np.uint64(post_id)) * _C2
    x ^= x >> _S31
    x = (x + np.uint64(code + 1)) * _C3
    x ^= x >> _S27
    x *= _C1
    x ^= x >> _S32
    key = np.int64(x)
    return key if key != 0 else np.int64(1)


@njit(cache=True)
def marks_have_room(marks: MarkArrays, n_more: int) -> bool:
    """Whether ``n_more`` marks keep the load at most 5/8."""
    return (marks.n[0] + n_more) * 8 <= len(marks.keys) * 5


@njit(cache=True)
def mark_slot(marks: MarkArrays, key: int) -> int:
    """Return the slot of a key, or -1 minus the free slot where it belongs."""
    mask = np.int64(len(marks.keys) - 1)
    slot = slot_of(key, mask)
    while marks.keys[slot] != 0:
        if marks.keys[slot] == key:
            return slot
        slot = (slot + 1) & mask
    return -1 - slot


@njit(cache=True)
def mark_put(marks: MarkArrays, slot: int, key: int, word: int, value: int) -> None:
    """Write a new mark into the free slot that `mark_slot` found; ``word``: from `mark_word`."""
    marks.keys[slot] = key
    marks.times[slot] = word
    marks.values[slot] = value
    marks.n[0] += 1


@njit(cache=True)
def mark_remove(marks: MarkArrays, hole: int) -> None:
    """Empty a slot and close the gap by shifting later members of its run back."""
    keys = marks.keys
    mask = np.int64(len(keys) - 1)
    scan = hole
    while True:
        scan = (scan + 1) & mask
        if keys[scan] == 0:
            break
        home = slot_of(keys[scan], mask)
        if ((scan - home) & mask) >= ((scan - hole) & mask):
            keys[hole] = keys[scan]
            marks.times[hole] = marks.times[scan]
            marks.values[hole] = marks.values[scan]
            hole = scan
    keys[hole] = 0
    marks.times[hole] = 0
    marks.values[hole] = 0
    marks.n[0] -= 1


@njit(cache=True)
def _sweep(marks: MarkArrays, before_ms: int, n_slots: int) -> None:
    size = len(marks.keys)
    slot = marks.n[1] if marks.n[1] < size else 0
    stop = min(slot + n_slots, size)
    while slot < stop:
        # A removal shifts another mark into this slot: look again before going on.
        if marks.keys[slot] != 0 and marks.times[slot] >> MARK_TIME_SHIFT < before_ms:
            mark_remove(marks, slot)
        else:
            slot += 1
    marks.n[1] = stop if stop < size else 0


@njit(cache=True)
def _rehash(old: MarkArrays, new: MarkArrays) -> None:
    for i in range(len(old.keys)):
        if old.keys[i] != 0:
            slot = -1 - mark_slot(new, old.keys[i])
            mark_put(new, slot, old.keys[i], old.times[i], np.int64(old.values[i]))


class Marks:
    """Owner of the table."""

    def __init__(self, size: int = 1024) -> None:
        self.arrays_for_kernels = _empty(size)

    def __len__(self) -> int:
        return int(self.arrays_for_kernels.n[0])

    def has_room(self, n_more: int) -> bool:
        """Whether kernels can go on without `grow`."""
        return bool(marks_have_room(self.arrays_for_kernels, n_more))

    def grow(self) -> None:
        """Double the table."""
        larger = _empty(len(self.arrays_for_kernels.keys) * 2)
        _rehash(self.arrays_for_kernels, larger)
        larger.n[1] = self.arrays_for_kernels.n[1]
        self.arrays_for_kernels = larger

    def sweep(self, before_ms: int) -> None:
        """Forget marks from before ``before_ms`` in the next slice of the table."""
        n_slots = -(-len(self.arrays_for_kernels.keys) // N_SWEEP_SLICES)
        _sweep(self.arrays_for_kernels, before_ms, n_slots)

    def arrays(self, prefix: str) -> Arrays:
        """Return the state for a checkpoint."""
        return {f"{prefix}.{name}": array for name, array in self.arrays_for_kernels._asdict().items()}

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over arrays written by `arrays`."""
        self.arrays_for_kernels = MarkArrays(*(arrays[f"{prefix}.{name}"] for name in MarkArrays._fields))


def _empty(size: int) -> MarkArrays:
    return MarkArrays(
        keys=np.zeros(size, dtype=np.int64),
        times=np.zeros(size, dtype=np.int64),
        values=np.zeros(size, dtype=np.int32),
        n=np.zeros(2, dtype=np.int64),
    )
