"""Scores of who will follow whom that nobody needs to learn: degree, common neighbours and their kin."""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.features.follow_edges import FollowEdges
from millrace.flywheel.link_metrics import ScoreRows
from millrace.pipeline.ragged import Ragged

Float64Array = npt.NDArray[np.float64]


class LinkBaseline(enum.Enum):
    """Which score."""

    DEGREE = "degree"
    """How many follow the one."""
    FRIENDS_OF_FRIENDS = "friends_of_friends"
    """How many of those whom the other follows follow the one: what the feed's suggestions count."""
    COMMON_NEIGHBOURS = "common_neighbours"
    """Users who follow or are followed by both."""
    ADAMIC_ADAR = "adamic_adar"
    """The same, each counted as 1 / log of how many neighbours it has (Adamic and Adar 2003)."""


def baseline_scores(edges: FollowEdges, baseline: LinkBaseline) -> ScoreRows:
    """Return a baseline's scores over the edges of a graph."""
    n = edges.n_users
    if baseline is LinkBaseline.DEGREE:
        degrees = edges.n_followers.astype(np.float64)
        return lambda users: np.broadcast_to(degrees, (len(users), n))
    both = FollowEdges.of_rows(
        edges.user_ids,
        np.concatenate([edges.followers, edges.followees]),
        np.concatenate([edges.followees, edges.followers]),
    )
    neighbours = (edges if baseline is LinkBaseline.FRIENDS_OF_FRIENDS else both).following()
    weights = np.ones(n)
    if baseline is LinkBaseline.ADAMIC_ADAR:
        weights = 1.0 / np.log(np.maximum(neighbours.lengths, 2))
    return lambda users: _two_steps(neighbours, weights, users)


def _two_steps(neighbours: Ragged, weights: Float64Array, users: Int64Array) -> Float64Array:
    """Return for each user and everybody the summed weights of those in between, shape (n, n_users)."""
    scores = np.empty((len(users), len(neighbours)))
    for i, user in enumerate(users.tolist()):
        between = neighbours.row(user)
        reached = neighbours.take(between)
        scores[i] = np.bincount(
            reached.values, weights=np.repeat(weights[between], reached.lengths), minlength=len(neighbours)
        )
    return scores
