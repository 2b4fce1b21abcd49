"""`FollowEdges`: the follow graph as arrays of rows, as the social encoder reads it, learning or serving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.pipeline.ragged import Ragged
from millrace.stores.follow_graph import FollowGraph
from millrace.stores.row_table import Rows
from millrace.stores.slab_lists import COUNT, Slab, slab_slot

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class FollowEdges:
    """Users, and who of them follows whom.

    Attributes
    ----------
    user_ids
        Shape (n_users,), int64, ascending: users are rows of it from here on.
    followers, followees
        Shape (n_edges,), int64 rows: sorted by follower, then followee; no edge twice, nobody follows themselves.
    """

    user_ids: Int64Array
    followers: Int64Array
    followees: Int64Array

    @classmethod
    def of(
        cls, follower_ids: Int64Array, followee_ids: Int64Array, more_user_ids: Int64Array | None = None
    ) -> FollowEdges:
        """Return the edges between users of these inside ids, in any order.

        Parameters
        ----------
        follower_ids, followee_ids
            Shape (n,), int64.
        more_user_ids
            Users that are to be there even if nobody follows them and they follow nobody.
        """
        more = np.empty(0, dtype=np.int64) if more_user_ids is None else more_user_ids
        user_ids = np.unique(np.concatenate([follower_ids, followee_ids, more]))
        return cls.of_rows(user_ids, np.searchsorted(user_ids, follower_ids), np.searchsorted(user_ids, followee_ids))

    @classmethod
    def of_rows(cls, user_ids: Int64Array, followers: Int64Array, followees: Int64Array) -> FollowEdges:
        """Return the edges between rows of ``user_ids`` (ascending), in any order."""
        n = max(len(user_ids), 1)
        is_other = followers != followees
        keys = np.unique(followers[is_other].astype(np.int64) * n + followees[is_other])
        return cls(user_ids, keys // n, keys % n)

    @property
    def n_users(self) -> int:
        """How many users there are."""
        return len(self.user_ids)

    @property
    def n_edges(self) -> int:
        """How many edges there are."""
        return len(self.followers)

    @property
    def n_following(self) -> Int64Array:
        """How many each user follows, shape (n_users,), int64."""
        return np.bincount(self.followers, minlength=self.n_users)

    @property
    def n_followers(self) -> Int64Array:
        """How many follow each user, shape (n_users,), int64."""
        return np.bincount(self.followees, minlength=self.n_users)

    def following(self) -> Ragged:
        """Return whom each user follows: rows; value ``i`` is edge ``i``."""
        return Ragged(self.followees, _offsets(self.n_following))

    def followed_by(self) -> tuple[Ragged, Int64Array]:
        """Return who follows each user, rows, and which edge each value is, shape (n_edges,)."""
        edges = np.argsort(self.followees, kind="stable")
        return Ragged(self.followers[edges], _offsets(self.n_followers)), edges

    def rows_of(self, user_ids: Int64Array) -> Int64Array:
        """Return the rows of users, shape (n,), int64; -1 for those who are not here."""
        if not self.n_users:
            return np.full(len(user_ids), -1, dtype=np.int64)
        rows = np.minimum(np.searchsorted(self.user_ids, user_ids), self.n_users - 1)
        return np.where(self.user_ids[rows] == user_ids, rows, -1)

    def only(self, is_kept: BoolArray) -> FollowEdges:
        """Return the same users with some of the edges, ``is_kept`` of shape (n_edges,)."""
        return FollowEdges(self.user_ids, self.followers[is_kept], self.followees[is_kept])


def edges_of(graph: FollowGraph, more_user_ids: Int64Array | None = None) -> FollowEdges:
    """Return the edges of the follow graph as they are now, and users that are to be there even without; a copy."""
    arrays = graph.kernel
    return FollowEdges.of(*_all_edges(arrays.users, arrays.following, graph.n_edges), more_user_ids)


@njit(cache=True)
def _all_edges(users: Rows, following: Slab, n_edges: int) -> tuple[Int64Array, Int64Array]:
    followers, followees = np.empty(n_edges, dtype=np.int64), np.empty(n_edges, dtype=np.int64)
    n = 0
    for row in range(len(users.keys_by_row)):
        for k in range(following.rows[row, COUNT]):
            followers[n] = users.keys_by_row[row]
            followees[n] = following.words[slab_slot(following, row, k), 0]
            n += 1
    return followers, followees


def _offsets(counts: Int64Array) -> Int64Array:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets
