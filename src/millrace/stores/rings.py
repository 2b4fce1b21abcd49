"""Rings: lists of `millrace.stores.slab_lists` with a bound, where the newest record replaces the oldest."""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from millrace.base.kernels import njit
from millrace.stores.slab_lists import COUNT, Slab, SlabLists, slab_insert, slab_remove, slab_slot

_TOP = -1


@njit(cache=True)
def rings_have_room(slab: Slab, max_len: int) -> bool:
    """Whether the arena could serve one largest block; asked before each event, so that none is half-applied."""
    return slab.state[_TOP] + 2 * max_len + 4 <= len(slab.words)


@njit(cache=True)
def ring_push(slab: Slab, row: int, max_len: int) -> int:
    """Return the slot for a new newest record of a row; at ``max_len`` the oldest gives way."""
    if slab.rows[row, COUNT] >= max_len:
        slab_remove(slab, row, 0)
    return slab_insert(slab, row, slab.rows[row, COUNT])


@njit(cache=True)
def ring_find_pair(slab: Slab, row: int, first: int, low_byte: int) -> int:
    """Return the newest record of a row with this first word and this low byte (an action) in its last word, or -1."""
    last = slab.words.shape[1] - 1
    for k in range(slab.rows[row, COUNT] - 1, -1, -1):
        slot = slab_slot(slab, row, k)
        if slab.words[slot, 0] == first and (slab.words[slot, last] & 0xFF) == low_byte:
            return k
    return -1


def make_room(lists: SlabLists, max_len: int) -> None:
    """Double the arena until `rings_have_room`."""
    while not rings_have_room(lists.slab, max_len):
        lists.grow()
