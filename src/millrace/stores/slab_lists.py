"""Many lists of fixed-size records in one arena: post rings, follow lists, block sets.

A record is a few int64 words. A list owns one block of the arena, of 4, 8, 16 ... records, read as a ring: a full
block is exchanged for one of twice the size, and freed blocks are kept in one chain per size. Lists
have no common bound (a celebrity's followers beside a newcomer's; `millrace.stores.rings` adds one), records may be
inserted and removed in the middle, and short lists give room back. Everything is arrays: kernels work on them without
a call into Python, and a checkpoint takes them as they are. Left places are overwritten with zeros: what is erased is
gone, and equal histories give equal bytes.

Kernels never run out of room half-way: `slab_fits` is asked before a list is changed; where it says no, the kernel
stops and the owner calls `SlabLists.grow`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.stores.fold import Arrays

UNIT: Final = 4
"""Records of the smallest block; starts of blocks are counted in it."""

START: Final = 0
CLASS: Final = 1
HEAD: Final = 2
COUNT: Final = 3

_SMALLEST: Final = 2
_N_CLASSES: Final = 32
_TOP: Final = _N_CLASSES


class Slab(NamedTuple):
    """The arrays of one arena, as kernels take them.

    Attributes
    ----------
    words
        Shape (capacity, n_words), int64: the records of all lists.
    rows
        Shape (n_rows, 4), int32, one row a list: START of its block in units of 4 records, CLASS (the block has
        2 ** CLASS records; 0: no block), HEAD (place of the oldest record in the block), COUNT.
    state
        Shape (33,), int64: per class the start of the first free block plus 1; last, how much was ever used.
    """

    words: Int64Array
    rows: Int32Array
    state: Int64Array


@njit(cache=True, inline="always")
def _wide(value: int) -> int:
    """Return a whole number as int64: fields of ``rows`` are int32, which shifts and products would overflow."""
    return int(np.int64(value))


@njit(cache=True, inline="always")
def slab_slot(slab: Slab, row: int, k: int) -> int:
    """Return where the ``k``-th oldest record of a list lies in ``words``."""
    mask = (1 << _wide(slab.rows[row, CLASS])) - 1
    return _wide(slab.rows[row, START]) * UNIT + ((_wide(slab.rows[row, HEAD]) + k) & mask)


@njit(cache=True)
def slab_can_take(slab: Slab, size_class: int) -> bool:
    """Whether a block of this class can be had without growing the arena."""
    return bool(slab.state[size_class] != 0 or slab.state[_TOP] + (1 << size_class) <= len(slab.words))


@njit(cache=True)
def slab_fits(slab: Slab, row: int, n_more: int) -> bool:
    """Whether up to 4 more records can be put into a list without growing the arena."""
    count = _wide(slab.rows[row, COUNT])
    size_class = _wide(slab.rows[row, CLASS])
    if size_class != 0 and count + n_more <= (1 << size_class):
        return True
    wanted = max(size_class + 1, _SMALLEST)
    return slab_can_take(slab, wanted)


@njit(cache=True)
def _take(slab: Slab, size_class: int) -> int:
    free = _wide(slab.state[size_class])
    if free != 0:
        slab.state[size_class] = slab.words[free - 1, 0]
        slab.words[free - 1, 0] = 0
        return free - 1
    start = _wide(slab.state[_TOP])
    slab.state[_TOP] = start + (1 << size_class)
    return start


@njit(cache=True)
def _give(slab: Slab, start: int, size_class: int) -> None:
    slab.words[start, 0] = slab.state[size_class]
    slab.state[size_class] = start + 1


@njit(cache=True)
def _move(slab: Slab, row: int, size_class: int) -> None:
    """Bring a list into a block of another class; its old block, emptied, is free."""
    old_class = _wide(slab.rows[row, CLASS])
    start = _take(slab, size_class)
    for k in range(slab.rows[row, COUNT]):
        slot = slab_slot(slab, row, k)
        for w in range(slab.words.shape[1]):
            slab.words[start + k, w] = slab.words[slot, w]
            slab.words[slot, w] = 0
    if old_class != 0:
        _give(slab, _wide(slab.rows[row, START]) * UNIT, old_class)
    slab.rows[row, START] = start // UNIT
    slab.rows[row, CLASS] = size_class
    slab.rows[row, HEAD] = 0


@njit(cache=True)
def slab_insert(slab: Slab, row: int, k: int) -> int:
    """Return the slot for a new record that becomes the ``k``-th oldest; newer ones move up. Ask `slab_fits` first."""
    count = slab.rows[row, COUNT]
    size_class = _wide(slab.rows[row, CLASS])
    if size_class == 0 or count == (1 << size_class):
        _move(slab, row, max(size_class + 1, _SMALLEST))
    slab.rows[row, COUNT] = count + 1
    for i in range(count, k, -1):
        to, source = slab_slot(slab, row, i), slab_slot(slab, row, i - 1)
        for w in range(slab.words.shape[1]):
            slab.words[to, w] = slab.words[source, w]
    return slab_slot(slab, row, k)


@njit(cache=True)
def slab_remove(slab: Slab, row: int, k: int) -> None:
    """Remove the ``k``-th oldest record; the shorter side closes the gap."""
    count = _wide(slab.rows[row, COUNT])
    n_words = slab.words.shape[1]
    if k < count // 2:
        for i in range(k, 0, -1):
            to, source = slab_slot(slab, row, i), slab_slot(slab, row, i - 1)
            for w in range(n_words):
                slab.words[to, w] = slab.words[source, w]
        left = slab_slot(slab, row, 0)
        mask = (1 << _wide(slab.rows[row, CLASS])) - 1
        slab.rows[row, HEAD] = (_wide(slab.rows[row, HEAD]) + 1) & mask
    else:
        for i in range(k, count - 1):
            to, source = slab_slot(slab, row, i), slab_slot(slab, row, i + 1)
            for w in range(n_words):
                slab.words[to, w] = slab.words[source, w]
        left = slab_slot(slab, row, count - 1)
    for w in range(n_words):
        slab.words[left, w] = 0
    slab.rows[row, COUNT] = count - 1


@njit(cache=True)
def slab_shrink(slab: Slab, row: int) -> None:
    """Give room back: the whole block of an empty list; half of it, again and again, where a quarter is in use.

    The smaller block is taken only where one is free: shrinking must not need room.
    """
    count = _wide(slab.rows[row, COUNT])
    size_class = _wide(slab.rows[row, CLASS])
    if size_class == 0:
        return
    if count == 0:
        _give(slab, _wide(slab.rows[row, START]) * UNIT, size_class)
        slab.rows[row, START] = 0
        slab.rows[row, CLASS] = 0
        slab.rows[row, HEAD] = 0
        return
    wanted = size_class
    while wanted > _SMALLEST and count * 4 <= (1 << wanted):
        wanted -= 1
    if wanted < size_class and slab_can_take(slab, wanted):
        _move(slab, row, wanted)


@njit(cache=True)
def slab_clear(slab: Slab, row: int) -> None:
    """Empty a list and give its block back."""
    for k in range(slab.rows[row, COUNT]):
        slot = slab_slot(slab, row, k)
        for w in range(slab.words.shape[1]):
            slab.words[slot, w] = 0
    slab.rows[row, COUNT] = 0
    slab_shrink(slab, row)


@njit(cache=True)
def slab_find(slab: Slab, row: int, first: int) -> int:
    """Return which record of a list has this first word (``k`` of the oldest such), or -1; linear in the list."""
    for k in range(slab.rows[row, COUNT]):
        if slab.words[slab_slot(slab, row, k), 0] == first:
            return k
    return -1


@njit(cache=True)
def slab_read(slab: Slab, row: int) -> Int64Array:
    """Return the records of a list, oldest first, shape (n, n_words), int64; a copy."""
    count = slab.rows[row, COUNT]
    out = np.empty((count, slab.words.shape[1]), dtype=np.int64)
    for k in range(count):
        slot = slab_slot(slab, row, k)
        for w in range(slab.words.shape[1]):
            out[k, w] = slab.words[slot, w]
    return out


class SlabLists:
    """Owner of one arena: grows it, hands its arrays to kernels and checkpoints.

    Parameters
    ----------
    n_words
        int64 words per record.
    n_rows
        Lists to begin with.
    capacity
        Records to begin with, a power of two.
    """

    def __init__(self, n_words: int = 1, *, n_rows: int = 64, capacity: int = 256) -> None:
        self.slab = Slab(
            words=np.zeros((capacity, n_words), dtype=np.int64),
            rows=np.zeros((n_rows, 4), dtype=np.int32),
            state=np.zeros(_N_CLASSES + 1, dtype=np.int64),
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays, free room included."""
        return sum(array.nbytes for array in self.slab)

    def read(self, row: int) -> Int64Array:
        """Return the records of a list, oldest first, shape (n, n_words), int64; a copy."""
        return slab_read(self.slab, row)

    def counts(self) -> Int32Array:
        """Return how many records each list has, shape (n_rows,), int32; a view."""
        return self.slab.rows[:, COUNT]

    def grow(self) -> None:
        """Double the arena. Called where `slab_fits` says no: a point that depends on the events alone."""
        self.slab = self.slab._replace(words=doubled(self.slab.words))

    def grow_rows(self) -> None:
        """Double the number of lists."""
        self.slab = self.slab._replace(rows=doubled(self.slab.rows))

    def arrays(self, prefix: str) -> Arrays:
        """Return the state for a checkpoint, names beginning with ``prefix``."""
        return {f"{prefix}.{field}": array for field, array in self.slab._asdict().items()}

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over arrays written by `arrays`."""
        self.slab = Slab(*(arrays[f"{prefix}.{field}"] for field in Slab._fields))


def doubled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array twice as long that begins with the given one and ends with zeros."""
    # zeros() leaves the new half to the system until it is touched: room costs no memory before it is used.
    larger = np.zeros((2 * len(array), *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
