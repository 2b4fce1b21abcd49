"""Sliding windows over effects: the compiled half of `millrace.stores.windows`.

Every effect on a counter becomes one node in the chain of its minute. When the minute leaves a window, its chain is
walked once and taken back from that window's sums; when it leaves the longest window, the nodes go. So an effect costs
a fixed amount of work however long it counts, sums are always ready to be copied, and because amounts are whole
thousandths (float64 holds them exactly up to 2 ** 53) a sum does not depend on the order of its parts.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, table_get, table_put, table_remove
from millrace.base.kernels import njit
from millrace.stores.decayed_rows import Float32Array, Float64Array

EFFECT_POST: Final = 0
EFFECT_AUTHOR: Final = 1
EFFECT_USER: Final = 2
EFFECT_COLUMN: Final = 3
EFFECT_MILLIS: Final = 4
EFFECT_AT_MS: Final = 5
IS_WITNESS: Final = 6
N_FIELDS: Final = 7
FORGET_POST: Final = -2
"""An effect as `millrace.stores.engagement_kernels.fold_ops` tells it: whose it is (0: nobody's), the column (-1 for
impressions, which stay the last column when actions are added), thousandths, when, and whether it is the first effect
of its event. With `FORGET_POST` as its column it tells that the post was deleted."""

MINUTE_MS: Final = 60_000
AHEAD: Final = 1_440
"""Minutes that an effect may be ahead of the windows; later ones count from then on."""

NEXT: Final = 0
NODE_ROWS: Final = 1  # and two more: post, author, user
NODE_COLUMN: Final = 4
NODE_MILLIS: Final = 5
N_NODE_WORDS: Final = 6

TOP: Final = 0
FREE: Final = 1
MINUTE: Final = 2


class SumArrays(NamedTuple):
    """Sums of one kind of key.

    Attributes
    ----------
    keys, values, n_keys
        The table from id to row.
    id_by_row
        Shape (n_rows,), int64: 0 where the row is free, or its owner was forgotten while nodes still refer to it.
    n_nodes
        Shape (n_rows,), int32: nodes that refer to the row; at 0 it is free.
    chain
        Shape (n_rows,), int32: of a free row, the next free one plus 1.
    n
        Shape (2,), int64: rows ever used, first free row plus 1.
    sums
        Shape (n_rows, n_columns, n_windows), float64: thousandths; the windows of one column share a cache line.
    """

    keys: Int64Array
    values: Int32Array
    n_keys: Int64Array
    id_by_row: Int64Array
    n_nodes: Int32Array
    chain: Int32Array
    n: Int64Array
    sums: Float64Array


class WheelArrays(NamedTuple):
    """Effects by minute.

    Attributes
    ----------
    nodes
        Shape (capacity, 6), int32: next node plus 1, rows of post, author (-1: none) and user, column, thousandths.
    heads
        Shape (n_slots,), int32: the newest node plus 1 of each minute, 0 for none.
    n
        Shape (3,), int64: nodes ever used, first free node plus 1, the minute that windows end with (0: none yet).
    witnesses
        Shape (16,), int64, ascending: the largest times so far, as `millrace.stores.watermark` has them.
    minutes
        Shape (n_windows,), int64: lengths, shortest first.
    """

    nodes: Int32Array
    heads: Int32Array
    n: Int64Array
    witnesses: Int64Array
    minutes: Int64Array


@njit(cache=True, nogil=True)
def add_effects(  # noqa: C901 - one loop: a call would count references to every array
    posts: SumArrays, authors: SumArrays, users: SumArrays, wheel: WheelArrays, effects: Int64Array, start: int
) -> int:
    """Count effects from ``start`` on; return how far it came: it stops where there is no room for one more."""
    n_slots = len(wheel.heads)
    longest = wheel.minutes[-1]
    # Effects of one event come together and mostly have the same owners: their rows are looked up once.
    keys = np.zeros(3, dtype=np.int64)
    rows = np.full(3, -1, dtype=np.int64)
    for i in range(start, len(effects)):
        if not (_has_room(posts) and _has_room(authors) and _has_room(users)) or (
            wheel.n[FREE] == 0 and wheel.n[TOP] == len(wheel.nodes)
        ):
            return i
        at_ms, column = effects[i, EFFECT_AT_MS], effects[i, EFFECT_COLUMN]
        if column == FORGET_POST:
            forget_key(posts, effects[i, EFFECT_POST])
            keys[:] = 0
            continue
        minute = at_ms // MINUTE_MS
        if wheel.n[MINUTE] == 0:
            wheel.n[MINUTE] = minute
        if effects[i, IS_WITNESS] != 0 and at_ms > wheel.witnesses[0]:
            _witness(wheel.witnesses, at_ms)
            reached = wheel.witnesses[0] // MINUTE_MS
            if reached > wheel.n[MINUTE]:
                advance(posts, authors, users, wheel, reached)
                keys[:] = 0
        minute = min(minute, wheel.n[MINUTE] + AHEAD)
        age = wheel.n[MINUTE] - minute
        if age >= longest:
            continue
        if wheel.n[FREE] > 0:
            node = wheel.n[FREE] - 1
            wheel.n[FREE] = wheel.nodes[node, NEXT]
        else:
            node = wheel.n[TOP]
            wheel.n[TOP] += 1
        slot = minute % n_slots
        wheel.nodes[node, NEXT] = wheel.heads[slot]
        wheel.heads[slot] = node + 1
        wheel.nodes[node, NODE_COLUMN] = column
        millis = effects[i, EFFECT_MILLIS]
        wheel.nodes[node, NODE_MILLIS] = millis
        if effects[i, EFFECT_POST] != keys[0]:
            keys[0] = effects[i, EFFECT_POST]
            rows[0] = _row_of(posts, keys[0])
        if effects[i, EFFECT_AUTHOR] != keys[1]:
            keys[1] = effects[i, EFFECT_AUTHOR]
            rows[1] = _row_of(authors, keys[1])
        if effects[i, EFFECT_USER] != keys[2]:
            keys[2] = effects[i, EFFECT_USER]
            rows[2] = _row_of(users, keys[2])
        for k in range(3):
            if keys[k] == 0:
                rows[k] = -1
            wheel.nodes[node, NODE_ROWS + k] = rows[k]
        _count(posts.n_nodes, posts.sums, wheel.minutes, rows[0], age, column, millis)
        _count(authors.n_nodes, authors.sums, wheel.minutes, rows[1], age, column, millis)
        _count(users.n_nodes, users.sums, wheel.minutes, rows[2], age, column, millis)
    return len(effects)


@njit(cache=True, nogil=True)
def advance(posts: SumArrays, authors: SumArrays, users: SumArrays, wheel: WheelArrays, minute: int) -> None:
    """Let windows end with ``minute``: take back what leaves them."""
    n_slots = len(wheel.heads)
    last = len(wheel.minutes) - 1
    before = wheel.n[MINUTE]
    for w in range(last + 1):
        length = wheel.minutes[w]
        # No node is further ahead: a jump of years costs one round.
        for gone in range(before - length + 1, min(minute - length, before + AHEAD) + 1):
            slot = gone % n_slots
            link = np.int64(wheel.heads[slot])
            while link != 0:
                node = link - 1
                link = np.int64(wheel.nodes[node, NEXT])
                column, millis = np.int64(wheel.nodes[node, NODE_COLUMN]), wheel.nodes[node, NODE_MILLIS]
                _take_back(posts, np.int64(wheel.nodes[node, NODE_ROWS]), w, column, millis, w == last)
                _take_back(authors, np.int64(wheel.nodes[node, NODE_ROWS + 1]), w, column, millis, w == last)
                _take_back(users, np.int64(wheel.nodes[node, NODE_ROWS + 2]), w, column, millis, w == last)
                if w == last:
                    wheel.nodes[node, NEXT] = wheel.n[FREE]
                    wheel.n[FREE] = node + 1
            if w == last:
                wheel.heads[slot] = 0
    wheel.n[MINUTE] = minute


@njit(cache=True, inline="always")
def _has_room(of: SumArrays) -> bool:
    return (of.n_keys[0] + 1) * 2 <= len(of.keys) and (of.n[FREE] > 0 or of.n[TOP] < len(of.chain))


@njit(cache=True)
def _witness(witnesses: Int64Array, at_ms: int) -> None:
    slot, last = 0, len(witnesses) - 1
    while slot < last and witnesses[slot + 1] < at_ms:
        witnesses[slot] = witnesses[slot + 1]
        slot += 1
    witnesses[slot] = at_ms


@njit(cache=True)
def _row_of(of: SumArrays, key: int) -> int:
    """Return the row of a key, a new one where it is not known; -1 for nobody's."""
    if key == 0:
        return np.int64(-1)
    row = table_get(of.keys, of.values, key)
    if row < 0:
        if of.n[FREE] > 0:
            row = of.n[FREE] - 1
            of.n[FREE] = of.chain[row]
            of.chain[row] = 0
        else:
            row = of.n[TOP]
            of.n[TOP] += 1
        table_put(of.keys, of.values, key, row)
        of.n_keys[0] += 1
        of.id_by_row[row] = key
    return row


@njit(cache=True, inline="always")
def _count(
    n_nodes: Int32Array, sums: Float64Array, minutes: Int64Array, row: int, age: int, column: int, millis: int
) -> None:
    """Add to the windows that an effect of this age lies in."""
    if row >= 0:
        n_nodes[row] += 1
        for w in range(len(minutes)):
            if age < minutes[w]:
                sums[row, column, w] += millis


@njit(cache=True)
def _take_back(of: SumArrays, row: int, w: int, column: int, millis: int, is_last: bool) -> None:  # noqa: FBT001
    if row < 0:
        return
    of.sums[row, column, w] -= millis
    if is_last:
        of.n_nodes[row] -= 1
        if of.n_nodes[row] == 0:
            # Nothing refers to it any more: all sums are exactly 0.
            if of.id_by_row[row] != 0:
                table_remove(of.keys, of.values, of.id_by_row[row])
                of.n_keys[0] -= 1
                of.id_by_row[row] = 0
            of.chain[row] = of.n[FREE]
            of.n[FREE] = row + 1


@njit(cache=True)
def forget_key(of: SumArrays, key: int) -> None:
    """Make a key unknown; its row stays nameless until the last node that refers to it has gone."""
    row = table_get(of.keys, of.values, key)
    if row >= 0:
        table_remove(of.keys, of.values, key)
        of.n_keys[0] -= 1
        of.id_by_row[row] = 0


@njit(cache=True)
def read_sums(of: SumArrays, wanted: Int64Array, leaving: Float64Array) -> Float32Array:
    """Return the sums of keys in whole units, shape (n, n_windows, n_columns), zeros where unknown; none below 0.

    Parameters
    ----------
    of
        The sums of one kind.
    wanted
        Shape (n,), int64: keys.
    leaving
        What is taken back first, `find_leaving`'s; of shape (0, ...) for nothing.
    """
    n_columns, n_windows = of.sums.shape[1], of.sums.shape[2]
    out = np.zeros((len(wanted), n_windows, n_columns), dtype=np.float32)
    for i in range(len(wanted)):
        row = table_get(of.keys, of.values, wanted[i])
        if row >= 0:
            for w in range(n_windows):
                for c in range(n_columns):
                    thousandths = of.sums[row, c, w]
                    if len(leaving) > 0:
                        thousandths -= leaving[i, w, c]
                    out[i, w, c] = max(np.float32(thousandths * 0.001), np.float32(0.0))
    return out


@njit(cache=True)
def find_leaving(of: SumArrays, which: int, wheel: WheelArrays, wanted: Int64Array, minute: int) -> Float64Array:
    """Return what will have left the windows by ``minute``, in thousandths, shape (n, n_windows, n_columns).

    Parameters
    ----------
    of
        The sums of one kind.
    which
        0 posts, 1 authors, 2 users: the kind.
    wheel
        The effects.
    wanted
        Shape (n,), int64: keys.
    minute
        The reader's minute, after the windows'.
    """
    out = np.zeros((len(wanted), of.sums.shape[2], of.sums.shape[1]), dtype=np.float64)
    place = np.full(max(of.n[TOP], 1), -1, dtype=np.int32)
    for i in range(len(wanted)):
        row = table_get(of.keys, of.values, wanted[i])
        if row >= 0:
            place[row] = i
    n_slots, before = len(wheel.heads), wheel.n[MINUTE]
    for w in range(len(wheel.minutes)):
        length = wheel.minutes[w]
        for gone in range(before - length + 1, min(minute - length, before + AHEAD) + 1):
            link = np.int64(wheel.heads[gone % n_slots])
            while link != 0:
                node = link - 1
                link = np.int64(wheel.nodes[node, NEXT])
                row = np.int64(wheel.nodes[node, NODE_ROWS + which])
                if row >= 0 and place[row] >= 0:
                    out[place[row], w, np.int64(wheel.nodes[node, NODE_COLUMN])] += wheel.nodes[node, NODE_MILLIS]
    for i in range(len(wanted)):  # repeated keys share the place of the last one
        row = table_get(of.keys, of.values, wanted[i])
        if row >= 0 and place[row] != i:
            out[i] = out[place[row]]
    return out
