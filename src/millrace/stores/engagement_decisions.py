"""What an event changes, decided from its mark alone: nothing, or a few effects on counters and one on the history.

Compiled parts of `millrace.stores.engagement_kernels.fold_ops`.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.actions import Action
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.stores.dwell import (
    IS_COMPLETE,
    IS_DWELL,
    IS_NOT_DWELLED,
    dwell_flags_kernel,
    strongest_action_kernel,
)
from millrace.stores.marks import MARK_CREDIT_MASK, MARK_TIME_SHIFT, MarkArrays, mark_put, mark_slot, mark_word

_FLAGS_SHIFT: Final = 27
_LONGEST_MASK: Final = (1 << _FLAGS_SHIFT) - 1
_NOT_DWELLED: Final = int(Action.NOT_DWELLED)
_DWELL: Final = int(Action.DWELL)
_DWELL_TIME: Final = int(Action.DWELL_TIME)
_COMPLETE: Final = int(Action.COMPLETE)

# What an event changes: at most an impression, its seconds and three flags, one of them lost.
MAX_EFFECTS: Final = 8
COLUMN: Final = 0
MILLIS: Final = 1
EFFECT_MS: Final = 2
CREDIT: Final = 3
N_EFFECT_FIELDS: Final = 4

# What it changes in the history: the action that goes, the one that comes (-1: none), and its dwell.
FORGOTTEN: Final = 0
REMEMBERED: Final = 1
DWELL_MS: Final = 2


@njit(cache=True)
def decide_engagement(
    marks: MarkArrays,
    key: int,
    at_ms: int,
    action: int,
    is_undo: bool,  # noqa: FBT001 - a kernel
    credit: int,
    effects: Int64Array,
    entry: Int64Array,
) -> int:
    """Mark an action or its undo; write what it changes to ``effects`` and ``entry``; return how many effects."""
    slot = mark_slot(marks, key)
    word = mark_word(at_ms, credit)
    _add_effect(effects, 0, action, 1_000, at_ms, credit)
    entry[FORGOTTEN], entry[REMEMBERED], entry[DWELL_MS] = -1, action, 0
    if slot < 0:
        mark_put(marks, -1 - slot, key, word, 0 if is_undo else 1)
        return 0 if is_undo else 1
    marked_ms, holds = marks.times[slot] >> MARK_TIME_SHIFT, marks.values[slot] == 1
    if not is_undo:
        if holds or at_ms <= marked_ms:
            return 0
        marks.values[slot] = 1
        marks.times[slot] = word
        return 1
    if not holds:
        marks.times[slot] = max(word, marks.times[slot])
        return 0
    if at_ms < marked_ms:
        return 0
    _add_effect(effects, 0, action, -1_000, marked_ms, marks.times[slot] & MARK_CREDIT_MASK)
    marks.values[slot] = 0
    marks.times[slot] = word
    entry[FORGOTTEN], entry[REMEMBERED] = action, -1
    return 1


@njit(cache=True)
def decide_impression(
    marks: MarkArrays,
    key: int,
    at_ms: int,
    dwell_ms: int,
    duration_ms: int,
    thresholds: Int64Array,
    impression: int,
    credit: int,
    effects: Int64Array,
    entry: Int64Array,
) -> int:
    """Mark an impression; write what it changes to ``effects`` and ``entry``; return how many effects."""
    slot = mark_slot(marks, key)
    is_first = slot < 0
    first_ms, first_credit, old_ms, old_flags = at_ms, np.int64(credit), np.int64(0), np.int64(0)
    if not is_first:
        first_ms = marks.times[slot] >> MARK_TIME_SHIFT
        first_credit = marks.times[slot] & MARK_CREDIT_MASK
        old_ms = np.int64(marks.values[slot] & _LONGEST_MASK)
        old_flags = np.int64(marks.values[slot] >> _FLAGS_SHIFT)
    longest_ms = max(old_ms, min(dwell_ms, thresholds[2]))
    flags = dwell_flags_kernel(longest_ms, dwell_ms, duration_ms, thresholds) | (old_flags & IS_COMPLETE)
    value = flags << _FLAGS_SHIFT | longest_ms
    n = 0
    if is_first:
        mark_put(marks, -1 - slot, key, mark_word(at_ms, credit), value)
        n = _add_effect(effects, n, impression, 1_000, at_ms, credit)
    elif longest_ms == old_ms and flags == old_flags:
        return 0
    else:
        marks.values[slot] = value
    if longest_ms > old_ms:
        n = _add_effect(effects, n, _DWELL_TIME, longest_ms - old_ms, at_ms, credit)
    gained, lost = flags & ~old_flags, old_flags & ~flags
    if gained & IS_NOT_DWELLED:
        n = _add_effect(effects, n, _NOT_DWELLED, 1_000, at_ms, credit)
    if lost & IS_NOT_DWELLED:
        n = _add_effect(effects, n, _NOT_DWELLED, -1_000, first_ms, first_credit)
    if gained & IS_DWELL:
        n = _add_effect(effects, n, _DWELL, 1_000, at_ms, credit)
    if gained & IS_COMPLETE:
        n = _add_effect(effects, n, _COMPLETE, 1_000, at_ms, credit)
    entry[FORGOTTEN] = -1 if is_first else strongest_action_kernel(old_flags)
    entry[REMEMBERED] = strongest_action_kernel(flags)
    entry[DWELL_MS] = longest_ms
    return n


@njit(cache=True, inline="always")
def _add_effect(effects: Int64Array, n: int, column: int, millis: int, at_ms: int, credit: int) -> int:
    effects[n, COLUMN] = column
    effects[n, MILLIS] = millis
    effects[n, EFFECT_MS] = at_ms
    effects[n, CREDIT] = credit
    return n + 1
