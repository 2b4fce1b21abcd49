"""The hottest posts, in a bounded heap that the fold keeps: `popular` reads a few thousand rows, never a million.

Heat is a decayed sum of weighted positive actions, kept as ``log2(sum of w * 2 ** (t / half_life))``. As time goes by
all heats shrink by one factor, so this number orders posts rightly for ever and is touched by engagements alone. The
heap's root is the coolest member; a hotter post takes its place. A post that lost its place, or was passed because
an undo later cooled a member, comes back with its next engagement.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.stores.decayed_rows import Float64Array


class HeatArrays(NamedTuple):
    """The heap, as kernels take it.

    Attributes
    ----------
    heat
        Shape (n_rows,), float64: log2 heat of each row; meaningless where ``is_warm`` is 0.
    place
        Shape (n_rows,), int32: place in the heap plus 1; 0 is outside.
    is_warm
        Shape (n_rows,), int8: 1 where the row has heat.
    heap
        Shape (max_popular,), int32: rows, the coolest first.
    n
        Shape (1,), int64: members.
    """

    heat: Float64Array
    place: Int32Array
    is_warm: np.ndarray[tuple[int], np.dtype[np.int8]]
    heap: Int32Array
    n: Int64Array


@njit(cache=True)
def heat_change(hot: HeatArrays, row: int, log2_amount: float, is_undo: bool) -> None:  # noqa: FBT001 - a kernel
    """Add a contribution of ``2 ** log2_amount`` to a row, or take it back, and put the heap in order."""
    if is_undo:
        if hot.is_warm[row] == 0:
            return
        left = 1.0 - 2.0 ** (log2_amount - hot.heat[row])
        if left < 1e-9:  # what remains is rounding
            heat_remove(hot, row)
            return
        hot.heat[row] += math.log2(left)
        if hot.place[row] > 0:
            _rise(hot, hot.place[row] - 1)
        return
    if hot.is_warm[row] == 0:
        hot.is_warm[row] = 1
        hot.heat[row] = log2_amount
    else:
        old = hot.heat[row]
        high, low = max(old, log2_amount), min(old, log2_amount)
        hot.heat[row] = high + math.log2(1.0 + 2.0 ** (low - high))
    if hot.place[row] > 0:
        _sink(hot, hot.place[row] - 1)
    elif hot.n[0] < len(hot.heap):
        place = hot.n[0]
        hot.n[0] += 1
        _put(hot, place, row)
        _rise(hot, place)
    elif hot.heat[row] > hot.heat[hot.heap[0]]:
        hot.place[hot.heap[0]] = 0
        _put(hot, 0, row)
        _sink(hot, 0)


@njit(cache=True)
def heat_remove(hot: HeatArrays, row: int) -> None:
    """Make a row cold and take it out of the heap."""
    hot.is_warm[row] = 0
    hot.heat[row] = 0.0
    place = hot.place[row] - 1
    if place < 0:
        return
    hot.place[row] = 0
    hot.n[0] -= 1
    last = hot.n[0]
    moved = hot.heap[last]
    hot.heap[last] = 0
    if place != last:
        _put(hot, place, moved)
        _rise(hot, place)
        _sink(hot, hot.place[moved] - 1)


@njit(cache=True)
def _put(hot: HeatArrays, place: int, row: int) -> None:
    hot.heap[place] = row
    hot.place[row] = place + 1


@njit(cache=True)
def _rise(hot: HeatArrays, place: int) -> None:
    row = hot.heap[place]
    heat = hot.heat[row]
    while place > 0:
        above = (place - 1) // 2
        if hot.heat[hot.heap[above]] <= heat:
            break
        _put(hot, place, hot.heap[above])
        place = above
    _put(hot, place, row)


@njit(cache=True)
def _sink(hot: HeatArrays, place: int) -> None:
    row = hot.heap[place]
    heat = hot.heat[row]
    n = hot.n[0]
    while True:
        below = 2 * place + 1
        if below >= n:
            break
        if below + 1 < n and hot.heat[hot.heap[below + 1]] < hot.heat[hot.heap[below]]:
            below += 1
        if hot.heat[hot.heap[below]] >= heat:
            break
        _put(hot, place, hot.heap[below])
        place = below
    _put(hot, place, row)
