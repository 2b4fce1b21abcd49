"""`NeighbourSampler`: the blocks of users and sampled neighbours that one step of the social encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.features.follow_edges import FollowEdges
from millrace.pipeline.ragged import Ragged

BoolArray = npt.NDArray[np.bool_]


class SampledBlock(NamedTuple):
    """What one layer reads: `millrace.models.social.Block` before it is made of tensors."""

    own: Int64Array
    following: Ragged
    followers: Ragged


class Sample(NamedTuple):
    """The users that are read, and how layers combine them.

    Attributes
    ----------
    users
        Shape (n_read,), int64: rows of the edges' users, ascending.
    blocks
        One a layer, in the order in which they are applied.
    """

    users: Int64Array
    blocks: list[SampledBlock]


class NeighbourSampler:
    """Draws neighbours of users, and theirs, layer by layer; each user's are drawn once a layer, whoever needs them.

    Parameters
    ----------
    edges
        The graph.
    fanouts
        At most so many followees and so many followers, from the users outwards.
    """

    def __init__(self, edges: FollowEdges, fanouts: Sequence[int]) -> None:
        self._fanouts = tuple(fanouts)
        self._n_users = edges.n_users
        self._following = edges.following()
        self._followers, self._edges_of_followers = edges.followed_by()
        self._edges_of_following = np.arange(edges.n_edges)

    def draw(self, users: Int64Array, rng: np.random.Generator, is_hidden: BoolArray | None = None) -> Sample:
        """Return the blocks for some users.

        Parameters
        ----------
        users
            Shape (n,), int64, no row twice: what the last block gives, in this order.
        rng
            Where chance comes from.
        is_hidden
            Shape (n_edges,): edges that nobody may look along, such as those that are to be predicted.
        """
        blocks: list[SampledBlock] = []
        local = np.zeros(self._n_users, dtype=np.int64)
        for fanout in self._fanouts:
            following = _drawn(self._following, self._edges_of_following, users, fanout, rng, is_hidden)
            followers = _drawn(self._followers, self._edges_of_followers, users, fanout, rng, is_hidden)
            is_read = np.zeros(self._n_users, dtype=np.bool_)
            for rows in (users, following.values, followers.values):
                is_read[rows] = True
            read = np.flatnonzero(is_read)
            local[read] = np.arange(len(read))
            blocks.append(
                SampledBlock(
                    local[users],
                    Ragged(local[following.values], following.offsets),
                    Ragged(local[followers.values], followers.offsets),
                )
            )
            users = read
        return Sample(users, blocks[::-1])


def _drawn(
    lists: Ragged,
    edges: Int64Array,
    users: Int64Array,
    fanout: int,
    rng: np.random.Generator,
    is_hidden: BoolArray | None,
) -> Ragged:
    """Return up to ``fanout`` neighbours of each user: all where there are no more, else one of each equal stretch.

    One place out of each of ``fanout`` stretches of a list: every neighbour is as likely as every other, and hardly
    ever is one drawn twice.
    """
    lengths = lists.lengths[users]
    n_drawn = np.minimum(lengths, fanout)
    offsets = np.zeros(len(users) + 1, dtype=np.int64)
    np.cumsum(n_drawn, out=offsets[1:])
    owner = np.repeat(np.arange(len(users)), n_drawn)
    k = np.arange(offsets[-1]) - offsets[owner]
    spread = (k + rng.random(len(k))) * (lengths[owner] / np.maximum(n_drawn[owner], 1))
    places = np.where(lengths[owner] > fanout, np.minimum(spread.astype(np.int64), lengths[owner] - 1), k)
    at = lists.offsets[users][owner] + places
    if is_hidden is None:
        return Ragged(lists.values[at], offsets)
    is_seen = ~is_hidden[edges[at]]
    seen_offsets = np.concatenate([[0], np.cumsum(is_seen)])[offsets].astype(np.int64)
    return Ragged(lists.values[at[is_seen]], seen_offsets)
