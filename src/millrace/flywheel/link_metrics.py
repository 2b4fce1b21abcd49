"""How well scores tell whom users follow: held-out edges, each ranked among all whom its follower does not follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from millrace.base.ids import Int64Array
from millrace.features.follow_edges import FollowEdges
from millrace.pipeline.ragged import Ragged

ScoreRows = Callable[[Int64Array], npt.NDArray[np.floating]]
"""From rows of users, shape (n,), to a score for every user, shape (n, n_users)."""

CUTOFFS: Final = (10, 100)

_BATCH_SCORES: Final = 1 << 23
"""Scores that are looked at together."""


class LinkMetrics(Struct, frozen=True, kw_only=True):
    """Means over held-out edges, 0 where there are none; equal scores share a place.

    Attributes
    ----------
    n_edges, n_users
        How many edges, of how many followers.
    auc
        The share of others whom the followed one is above.
    recall
        By cut-off: the share of edges whose followed one is among the first so many.
    mrr
        The mean of 1 / place.
    """

    n_edges: int
    n_users: int
    auc: float
    recall: dict[str, float]
    mrr: float


def link_metrics(
    score_rows: ScoreRows, known: FollowEdges, held_out: FollowEdges, *, max_users: int, seed: int
) -> LinkMetrics:
    """Return how well scores find held-out edges.

    Parameters
    ----------
    score_rows
        The scores.
    known
        Edges that are no answer, because whoever scores was shown them.
    held_out
        Edges that are to be found, over the same users.
    max_users
        Followers that are looked at, at most: a seeded sample.
    seed
        Of the sample.
    """
    users = np.unique(held_out.followers)
    if len(users) > max_users:
        users = np.sort(np.random.default_rng(seed).choice(users, max_users, replace=False))
    wanted, given = held_out.following(), known.following()
    places: list[npt.NDArray[np.float64]] = []
    shares: list[npt.NDArray[np.float64]] = []
    n_together = max(_BATCH_SCORES // max(known.n_users, 1), 1)
    for start in range(0, len(users), n_together):
        batch = users[start : start + n_together]
        for user, scores in zip(batch.tolist(), score_rows(batch), strict=True):
            place, share = _places(scores, user, wanted, given)
            places.append(place)
            shares.append(share)
    every = np.concatenate(places) if places else np.empty(0)
    return LinkMetrics(
        n_edges=len(every),
        n_users=len(users),
        auc=_mean(np.concatenate(shares) if shares else np.empty(0)),
        recall={f"@{k}": _mean((every <= k).astype(np.float64)) for k in CUTOFFS},
        mrr=_mean(1.0 / every),
    )


def _places(
    scores: npt.NDArray[np.floating], user: int, wanted: Ragged, given: Ragged
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the place of each wanted one among the others, from 1, and the share of them that it is above."""
    is_other = np.ones(len(scores), dtype=np.bool_)
    is_other[user] = False
    is_other[given.row(user)] = False
    is_other[wanted.row(user)] = False
    others = np.sort(scores[is_other])
    mine = scores[wanted.row(user)]
    n_below = np.searchsorted(others, mine, side="left")
    n_equal = np.searchsorted(others, mine, side="right") - n_below
    share = (n_below + 0.5 * n_equal) / max(len(others), 1)
    return 1.0 + len(others) - n_below - 0.5 * n_equal, share


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
