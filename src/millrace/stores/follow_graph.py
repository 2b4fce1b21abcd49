"""`FollowGraph`: who follows whom, both directions, in the order of following.

An edge lives while anything holds it: the plain follow, or any list (or group) that the follower keeps the followee
in. Plain edges, nearly all, cost two int64 words; only edges that a list holds have records of their own: one per
holder, the plain follow being holder 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import NO_ID, IdHasher, IdKind, Int64Array
from millrace.base.int_table import Int32Array, slot_of
from millrace.base.kernels import njit
from millrace.events.envelope import Payload
from millrace.events.user_events import FollowChanged, UserErased
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

BoolArray = npt.NDArray[np.bool_]
Int8Array = npt.NDArray[np.int8]

_UNFOLLOW: Final = 0
_FOLLOW: Final = 1
_ERASE: Final = 2

_DONE: Final = 0
_USERS_FULL: Final = 1
_FOLLOWING_FULL: Final = 2
_FOLLOWERS_FULL: Final = 3
_HOLDS_FULL: Final = 4


class FollowArrays(NamedTuple):
    """The arrays of the graph, as kernels take them.

    Attributes
    ----------
    users
        User id to row; each user has one list in each of the others.
    following, followers
        Records of one word: the other user's id, oldest edge first.
    holds
        Records of (followee id, list id) for edges that a list holds; list id 0 is the plain follow.
    """

    users: Rows
    following: Slab
    followers: Slab
    holds: Slab


class FollowGraph:
    """Fold of the follow graph. Nobody follows themselves: such events change nothing.

    Parameters
    ----------
    hasher
        Ids to inside ids.
    """

    name = "follows"
    handles: tuple[type[Payload], ...] = (FollowChanged, UserErased)

    def __init__(self, hasher: IdHasher) -> None:
        self._hasher = hasher
        self._users = RowTable(64)
        self._following, self._followers = SlabLists(1), SlabLists(1)
        self._holds = SlabLists(2)
        self._refresh()

    # --- reading

    @property
    def n_users(self) -> int:
        """How many users follow or are followed."""
        return len(self._users)

    @property
    def n_edges(self) -> int:
        """How many edges there are."""
        return int(self._following.counts().sum(dtype=np.int64))

    def following(self, user_id: int) -> Int64Array:
        """Return whom a user follows, in the order of following, shape (n,), int64; a copy."""
        return _list_of(self._graph.users, self._graph.following, user_id)

    def followers(self, user_id: int) -> Int64Array:
        """Return who follows a user, in the order of following, shape (n,), int64; a copy."""
        return _list_of(self._graph.users, self._graph.followers, user_id)

    def n_following(self, user_ids: Int64Array) -> Int32Array:
        """Return how many each user follows, shape (n,), int32."""
        return self._counts(self._following, user_ids)

    def n_followers(self, user_ids: Int64Array) -> Int32Array:
        """Return how many follow each user, shape (n,), int32."""
        return self._counts(self._followers, user_ids)

    @property
    def kernel(self) -> FollowArrays:
        """The arrays, for kernels that read them (`millrace.stores.follow_walks`)."""
        return self._graph

    def is_following(self, user_id: int, user_ids: Int64Array) -> BoolArray:
        """Return which of ``user_ids`` a user follows, shape (n,), bool."""
        wanted = np.array(user_ids, dtype=np.int64)
        return _is_in_list(self._graph.users, self._graph.following, user_id, wanted)

    def is_followed_by(self, user_id: int, user_ids: Int64Array) -> BoolArray:
        """Return which of ``user_ids`` follow a user, shape (n,), bool; O(followers of the user + n)."""
        wanted = np.array(user_ids, dtype=np.int64)
        return _is_in_list(self._graph.users, self._graph.followers, user_id, wanted)

    # --- writing

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        rows = batch.rows_of(self.handles)
        if not rows:
            return
        one, user = self._hasher.one, IdKind.USER
        changes = np.zeros(len(rows), dtype=np.int8)
        ids = np.zeros((3, len(rows)), dtype=np.int64)
        for i, row in enumerate(rows):
            payload = batch.events[row].payload
            if isinstance(payload, FollowChanged):
                changes[i] = _FOLLOW if payload.is_following else _UNFOLLOW
                ids[0, i] = one(user, payload.follower_id)
                ids[1, i] = one(user, payload.followee_id)
                if payload.list_id is not None:
                    ids[2, i] = one(IdKind.LIST, payload.list_id)
            else:
                changes[i] = _ERASE
                ids[0, i] = one(user, payload.user_id)
        self._apply(changes, ids)

    def ingest(self, follower_ids: Int64Array, followee_ids: Int64Array) -> None:
        """Add many plain follows at once, in their order; the same as as many `FollowChanged`."""
        ids = np.zeros((3, len(follower_ids)), dtype=np.int64)
        ids[0], ids[1] = follower_ids, followee_ids
        self._apply(np.full(len(follower_ids), _FOLLOW, dtype=np.int8), ids)

    def tick(self, watermark_ms: int) -> None:
        """Nothing runs out: a follow stays until it is taken back."""

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {
            **self._users.arrays("users"),
            **self._following.arrays("following"),
            **self._followers.arrays("followers"),
            **self._holds.arrays("holds"),
        }

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._users.load("users", arrays)
        self._following.load("following", arrays)
        self._followers.load("followers", arrays)
        self._holds.load("holds", arrays)
        self._refresh()

    def _apply(self, changes: Int8Array, ids: Int64Array) -> None:
        start = 0
        while True:
            start, full = _apply_changes(self._graph, changes, ids, start)
            if full == _DONE:
                return
            if full == _USERS_FULL:
                self._users.grow()
                for lists in (self._following, self._followers, self._holds):
                    lists.grow_rows()
            elif full == _FOLLOWING_FULL:
                self._following.grow()
            elif full == _FOLLOWERS_FULL:
                self._followers.grow()
            else:
                self._holds.grow()
            self._refresh()

    def _refresh(self) -> None:
        self._graph = FollowArrays(self._users.rows, self._following.slab, self._followers.slab, self._holds.slab)

    def _counts(self, lists: SlabLists, user_ids: Int64Array) -> Int32Array:
        rows = self._users.find(np.array(user_ids, dtype=np.int64))
        return np.where(rows >= 0, lists.counts()[np.maximum(rows, 0)], 0).astype(np.int32)


@njit(cache=True)
def _list_of(users: Rows, lists: Slab, user_id: int) -> Int64Array:
    row = rows_find(users, user_id)
    count = np.int64(lists.rows[row, COUNT]) if row >= 0 else np.int64(0)
    out = np.empty(count, dtype=np.int64)
    for k in range(count):
        out[k] = lists.words[slab_slot(lists, row, k), 0]
    return out


@njit(cache=True)
def _is_in_list(users: Rows, lists: Slab, user_id: int, wanted: Int64Array) -> BoolArray:
    """Return which ids are in a user's list: the list goes into a hash set, the ids are looked up."""
    out = np.zeros(len(wanted), dtype=np.bool_)
    row = rows_find(users, user_id)
    if row < 0:
        return out
    count = lists.rows[row, COUNT]
    size = 4
    while size < 2 * count:
        size *= 2
    mask = np.int64(size - 1)
    members = np.zeros(size, dtype=np.int64)
    for k in range(count):
        member = lists.words[slab_slot(lists, row, k), 0]
        slot = slot_of(member, mask)
        while members[slot] != 0:
            slot = (slot + 1) & mask
        members[slot] = member
    for i in range(len(wanted)):
        slot = slot_of(wanted[i], mask)
        while members[slot] != 0:
            if members[slot] == wanted[i]:
                out[i] = True
                break
            slot = (slot + 1) & mask
    return out


@njit(cache=True)
def _find_hold(holds: Slab, row: int, followee: int, list_id: int) -> int:
    """Return which record of a follower says that a list holds the edge to ``followee``, or -1."""
    for k in range(holds.rows[row, COUNT]):
        slot = slab_slot(holds, row, k)
        if holds.words[slot, 0] == followee and holds.words[slot, 1] == list_id:
            return k
    return -1


@njit(cache=True)
def _put_hold(holds: Slab, row: int, followee: int, list_id: int) -> None:
    slot = slab_insert(holds, row, holds.rows[row, COUNT])
    holds.words[slot, 0] = followee
    holds.words[slot, 1] = list_id


@njit(cache=True)
def _n_holds(holds: Slab, row: int, followee: int) -> int:
    """Return how many records say who holds an edge."""
    n = 0
    for k in range(holds.rows[row, COUNT]):
        n += holds.words[slab_slot(holds, row, k), 0] == followee
    return n


@njit(cache=True)
def _drop_holds(holds: Slab, row: int, followee: int) -> None:
    """Forget who holds an edge."""
    k = slab_find(holds, row, followee)
    while k >= 0:
        slab_remove(holds, row, k)
        k = slab_find(holds, row, followee)
    slab_shrink(holds, row)


@njit(cache=True)
def _row_of(users: Rows, user_id: int) -> int:
    row = rows_find(users, user_id)
    return row if row >= 0 else rows_take(users, user_id)


@njit(cache=True)
def _follow(graph: FollowArrays, follower: int, followee: int, list_id: int) -> int:
    users, following, followers, holds = graph.users, graph.following, graph.followers, graph.holds
    if not rows_fit(users, 2):
        return _USERS_FULL
    # Rows may be taken before room for the edge is found: the same change is tried again once there is.
    row, other = _row_of(users, follower), _row_of(users, followee)
    if not slab_fits(following, row, 1):
        return _FOLLOWING_FULL
    if not slab_fits(followers, other, 1):
        return _FOLLOWERS_FULL
    if list_id != NO_ID and not slab_fits(holds, row, 2):
        return _HOLDS_FULL
    if slab_find(following, row, followee) < 0:
        following.words[slab_insert(following, row, following.rows[row, COUNT]), 0] = followee
        followers.words[slab_insert(followers, other, followers.rows[other, COUNT]), 0] = follower
        if list_id != NO_ID:
            _put_hold(holds, row, followee, list_id)
        return _DONE
    is_plain = slab_find(holds, row, followee) < 0
    if is_plain:
        if list_id != NO_ID:
            _put_hold(holds, row, followee, NO_ID)
            _put_hold(holds, row, followee, list_id)
    elif _find_hold(holds, row, followee, list_id) < 0:
        if not slab_fits(holds, row, 1):
            return _HOLDS_FULL
        _put_hold(holds, row, followee, list_id)
    return _DONE


@njit(cache=True)
def _drop_if_alone(graph: FollowArrays, row: int) -> None:
    if graph.following.rows[row, COUNT] == 0 and graph.followers.rows[row, COUNT] == 0:
        rows_drop(graph.users, row)


@njit(cache=True)
def _remove_from(lists: Slab, row: int, user_id: int) -> None:
    k = slab_find(lists, row, user_id)
    if k >= 0:
        slab_remove(lists, row, k)
        slab_shrink(lists, row)


@njit(cache=True)
def _unfollow(graph: FollowArrays, follower: int, followee: int, list_id: int) -> None:
    row, other = rows_find(graph.users, follower), rows_find(graph.users, followee)
    if row < 0 or other < 0 or slab_find(graph.following, row, followee) < 0:
        return
    holds = graph.holds
    if slab_find(holds, row, followee) >= 0:
        k = _find_hold(holds, row, followee, list_id)
        if k < 0:
            return
        slab_remove(holds, row, k)
        slab_shrink(holds, row)
        k = slab_find(holds, row, followee)
        if k >= 0:
            # A plain follow that is left alone needs no record.
            if holds.words[slab_slot(holds, row, k), 1] == NO_ID and _n_holds(holds, row, followee) == 1:
                _drop_holds(holds, row, followee)
            return
    elif list_id != NO_ID:
        return
    _remove_from(graph.following, row, followee)
    _remove_from(graph.followers, other, follower)
    _drop_if_alone(graph, row)
    _drop_if_alone(graph, other)


@njit(cache=True)
def _erase(graph: FollowArrays, user_id: int) -> None:
    """Take a user out of the graph: every edge from and to them."""
    row = rows_find(graph.users, user_id)
    if row < 0:
        return
    for k in range(graph.following.rows[row, COUNT]):
        other = rows_find(graph.users, graph.following.words[slab_slot(graph.following, row, k), 0])
        _remove_from(graph.followers, other, user_id)
        _drop_if_alone(graph, other)
    for k in range(graph.followers.rows[row, COUNT]):
        other = rows_find(graph.users, graph.followers.words[slab_slot(graph.followers, row, k), 0])
        _remove_from(graph.following, other, user_id)
        _drop_holds(graph.holds, other, user_id)
        _drop_if_alone(graph, other)
    slab_clear(graph.following, row)
    slab_clear(graph.followers, row)
    slab_clear(graph.holds, row)
    rows_drop(graph.users, row)


@njit(cache=True)
def _apply_changes(graph: FollowArrays, changes: Int8Array, ids: Int64Array, start: int) -> tuple[int, int]:
    """Apply changes from ``start`` on; return where it stopped and what is full there (_DONE: nothing)."""
    for i in range(start, len(changes)):
        if changes[i] == _ERASE:
            _erase(graph, ids[0, i])
        elif ids[0, i] != ids[1, i]:
            if changes[i] == _FOLLOW:
                full = _follow(graph, ids[0, i], ids[1, i], ids[2, i])
                if full != _DONE:
                    return i, full
            else:
                _unfollow(graph, ids[0, i], ids[1, i], ids[2, i])
    return len(changes), _DONE
