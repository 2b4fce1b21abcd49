"""`RelationStore`: who blocks and mutes whom, and which words they do not want to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.base.kernels import njit
from millrace.base.keywords import NO_KEYWORD, keyword_hash
from millrace.events.envelope import Payload
from millrace.events.user_events import BlockChanged, MuteChanged, UserErased
from millrace.stores.fold import Arrays, EventBatch
from millrace.stores.row_table import Rows, RowTable, rows_drop, rows_find, rows_fit, rows_take
from millrace.stores.slab_lists import (
    COUNT,
    Slab,
    SlabLists,
    slab_clear,
    slab_find,
    slab_fits,
    slab_insert,
    slab_remove,
    slab_shrink,
    slab_slot,
)

_BLOCKED: Final = 0
_BLOCKED_BY: Final = 1
_MUTED: Final = 2
_KEYWORDS: Final = 3
_N_LISTS: Final = 4

_REMOVE: Final = 0
_ADD: Final = 1
_ERASE: Final = 2

_DONE: Final = 0
_USERS_FULL: Final = 1
_LISTS_FULL: Final = 2


class RelationStore:
    """Fold of blocks and mutes. Nobody blocks or mutes themselves, or blanks: such events change nothing.

    Parameters
    ----------
    hasher
        Ids to inside ids.
    """

    name = "relations"
    handles: tuple[type[Payload], ...] = (BlockChanged, MuteChanged, UserErased)

    def __init__(self, hasher: IdHasher) -> None:
        self._hasher = hasher
        self._users = RowTable(64)
        self._lists = SlabLists(1, n_rows=64 * _N_LISTS)

    # --- reading

    @property
    def n_users(self) -> int:
        """How many users block, are blocked or mute."""
        return len(self._users)

    def blocked(self, user_id: int) -> Int64Array:
        """Return whom a user blocks, in order, shape (n,), int64; a copy."""
        return self._read(user_id, _BLOCKED)

    def blocked_by(self, user_id: int) -> Int64Array:
        """Return who blocks a user, in order, shape (n,), int64; a copy."""
        return self._read(user_id, _BLOCKED_BY)

    def muted(self, user_id: int) -> Int64Array:
        """Return whom a user mutes, in order, shape (n,), int64; a copy."""
        return self._read(user_id, _MUTED)

    def muted_keywords(self, user_id: int) -> Int64Array:
        """Return the `keyword_hash` of each keyword a user mutes, in order, shape (n,), int64; a copy."""
        return self._read(user_id, _KEYWORDS)

    # --- writing

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        one, user = self._hasher.one, IdKind.USER
        changes: list[tuple[int, int, int, int]] = []
        for row in batch.rows_of(self.handles):
            payload = batch.events[row].payload
            if isinstance(payload, BlockChanged):
                blocker, blocked = one(user, payload.blocker_id), one(user, payload.blocked_id)
                if blocker != blocked:
                    change = _ADD if payload.is_blocked else _REMOVE
                    changes.append((change, blocker, _BLOCKED, blocked))
                    changes.append((change, blocked, _BLOCKED_BY, blocker))
            elif isinstance(payload, MuteChanged):
                change, muter = _ADD if payload.is_muted else _REMOVE, one(user, payload.muter_id)
                if payload.muted_id is not None:
                    muted = one(user, payload.muted_id)
                    if muted != muter:
                        changes.append((change, muter, _MUTED, muted))
                elif payload.keyword is not None:
                    keyword = keyword_hash(payload.keyword)
                    if keyword != NO_KEYWORD:
                        changes.append((change, muter, _KEYWORDS, keyword))
            elif isinstance(payload, UserErased):
                changes.append((_ERASE, one(user, payload.user_id), 0, 0))
        if changes:
            self._apply(np.array(changes, dtype=np.int64))

    def tick(self, watermark_ms: int) -> None:
        """Nothing runs out: a block or mute stays until it is taken back."""

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {**self._users.arrays("users"), **self._lists.arrays("lists")}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._users.load("users", arrays)
        self._lists.load("lists", arrays)

    def _read(self, user_id: int, which: int) -> Int64Array:
        row = self._users.row(user_id)
        if row < 0:
            return np.empty(0, dtype=np.int64)
        return self._lists.read(row * _N_LISTS + which).reshape(-1)

    def _apply(self, changes: Int64Array) -> None:
        start = 0
        while True:
            start, full = _apply_changes(self._users.rows, self._lists.slab, changes, start)
            if full == _DONE:
                return
            if full == _USERS_FULL:
                self._users.grow()
                self._lists.grow_rows()
            else:
                self._lists.grow()


@njit(cache=True)
def _drop_if_alone(users: Rows, lists: Slab, row: int) -> None:
    for which in range(_N_LISTS):
        if lists.rows[row * _N_LISTS + which, COUNT] > 0:
            return
    rows_drop(users, row)


@njit(cache=True)
def _remove_from(users: Rows, lists: Slab, row: int, which: int, value: int) -> None:
    k = slab_find(lists, row * _N_LISTS + which, value)
    if k >= 0:
        slab_remove(lists, row * _N_LISTS + which, k)
        slab_shrink(lists, row * _N_LISTS + which)
        _drop_if_alone(users, lists, row)


@njit(cache=True)
def _erase(users: Rows, lists: Slab, user_id: int) -> None:
    """Forget a user: their own lists, and their id in everybody else's."""
    row = rows_find(users, user_id)
    if row >= 0:
        for mine, theirs in ((_BLOCKED, _BLOCKED_BY), (_BLOCKED_BY, _BLOCKED)):
            for k in range(lists.rows[row * _N_LISTS + mine, COUNT]):
                other = lists.words[slab_slot(lists, row * _N_LISTS + mine, k), 0]
                _remove_from(users, lists, rows_find(users, other), theirs, user_id)
        for which in range(_N_LISTS):
            slab_clear(lists, row * _N_LISTS + which)
        rows_drop(users, row)
    # Mutes are kept in one direction only, as nobody asks who mutes a user; erasure is rare and looks everywhere.
    for other in range(len(users.keys_by_row)):
        if users.keys_by_row[other] != 0:
            _remove_from(users, lists, other, _MUTED, user_id)


@njit(cache=True)
def _apply_changes(users: Rows, lists: Slab, changes: Int64Array, start: int) -> tuple[int, int]:
    """Apply (change, user, list, value) from ``start`` on; return where it stopped and what is full there."""
    for i in range(start, len(changes)):
        change, user_id, which, value = changes[i]
        if change == _ERASE:
            _erase(users, lists, user_id)
            continue
        row = rows_find(users, user_id)
        if change == _REMOVE:
            if row >= 0:
                _remove_from(users, lists, row, which, value)
            continue
        if not rows_fit(users, 1):
            return i, _USERS_FULL
        if row < 0:
            row = rows_take(users, user_id)
        if not slab_fits(lists, row * _N_LISTS + which, 1):
            return i, _LISTS_FULL
        if slab_find(lists, row * _N_LISTS + which, value) < 0:
            slot = slab_insert(lists, row * _N_LISTS + which, lists.rows[row * _N_LISTS + which, COUNT])
            lists.words[slot, 0] = value
    return len(changes), _DONE
