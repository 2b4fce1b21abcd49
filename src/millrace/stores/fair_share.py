"""Fairness between groups: who comes how often among the best, and a choice in which all groups take turns.

Groups are authors (in-network posts), or the posts that led somewhere (co-engagement).
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, slot_of
from millrace.base.kernels import njit


@njit(cache=True)
def rank_in_group(groups: Int64Array) -> Int32Array:
    """Return how many earlier rows are of the same group, shape (n,): 0 for each group's first.

    Parameters
    ----------
    groups
        Shape (n,), int64; the group of each row, best row first. 0 is a group like any other.
    """
    n = len(groups)
    size = 16
    while size < 2 * n:
        size *= 2
    mask = np.int64(size - 1)
    first_row = np.full(size, -1, dtype=np.int32)
    n_before = np.zeros(size, dtype=np.int32)
    ranks = np.empty(n, dtype=np.int32)
    for row in range(n):
        slot = slot_of(groups[row], mask)
        while first_row[slot] >= 0 and groups[first_row[slot]] != groups[row]:
            slot = (slot + 1) & mask
        if first_row[slot] < 0:
            first_row[slot] = row
        ranks[row] = n_before[slot]
        n_before[slot] += 1
    return ranks


@njit(cache=True)
def take_turns(groups: Int64Array, max_rows: int) -> Int64Array:
    """Return the rows that are chosen when groups take turns, in their given order, shape (at most max_rows,).

    Every group's best row comes first, then every group's second best, and so on; where a round does not fit, the
    better rows of it are in.

    Parameters
    ----------
    groups
        Shape (n,), int64; the group of each row, best row first.
    max_rows
        How many at most.
    """
    n = len(groups)
    if n <= max_rows:
        return np.arange(n)
    ranks = rank_in_group(groups)
    n_of_rank = np.zeros(n + 1, dtype=np.int64)
    for row in range(n):
        n_of_rank[ranks[row]] += 1
    full_rounds, n_left = 0, max(max_rows, 0)
    while n_of_rank[full_rounds] <= n_left:
        n_left -= n_of_rank[full_rounds]
        full_rounds += 1
    out = np.empty(max(max_rows, 0), dtype=np.int64)
    n_out = 0
    for row in range(n):
        if ranks[row] < full_rounds or (ranks[row] == full_rounds and n_left > 0):
            n_left -= ranks[row] == full_rounds
            out[n_out] = row
            n_out += 1
    return out


def take_turns_reference(groups: Int64Array, max_rows: int) -> Int64Array:
    """Return the same as `take_turns`, by sorting in NumPy."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0]) if len(groups) else np.empty(0, dtype=np.int64)
    lengths = np.diff(np.r_[starts, len(groups)])
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, lengths)
    return np.sort(np.argsort(ranks, kind="stable")[: max(max_rows, 0)])
