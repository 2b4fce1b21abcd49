"""`FollowBatches`: what one step of the social encoder learns from, drawn by the number of the step alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.features.follow_edges import FollowEdges
from millrace.flywheel.neighbour_sampling import NeighbourSampler, Sample

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]


class FollowBatch(NamedTuple):
    """Some follows, and candidates among which each followed one is to be found.

    Attributes
    ----------
    sample
        Users and neighbours that are read; it gives the vectors of `followers` and `candidates`.
    followers
        Shape (n,), int64: place of each follower among the vectors.
    candidates
        Shape (m,), int64: place of each candidate among the vectors.
    positives
        Shape (n,), int64: which candidate each follower follows.
    log_frequencies
        Shape (m,), float32: the log of each candidate's chance to be one.
    is_left_out
        Shape (n, m): others whom the follower follows too, and the follower.
    """

    sample: Sample
    followers: Int64Array
    candidates: Int64Array
    positives: Int64Array
    log_frequencies: Float32Array
    is_left_out: BoolArray


class FollowBatches:
    """Draws batches of the edges of a graph.

    Parameters
    ----------
    edges
        What is learned from.
    fanouts
        How many neighbours are sampled.
    n_edges, n_random
        Edges of a batch, and candidates that are drawn evenly beside the followed ones.
    seed
        With the number of a step it decides the batch: whoever goes on at a step needs no state of a generator.
    """

    def __init__(self, edges: FollowEdges, fanouts: tuple[int, ...], n_edges: int, n_random: int, seed: int) -> None:
        self._edges = edges
        self._following = edges.following()
        self._sampler = NeighbourSampler(edges, fanouts)
        self._n_edges, self._n_random, self._seed = n_edges, n_random, seed
        missed = n_edges * np.log1p(-np.minimum(edges.n_followers / max(edges.n_edges, 1), 1 - 1e-9))
        missed += n_random * np.log1p(-1.0 / max(edges.n_users, 2))
        self._log_frequencies = np.log(-np.expm1(missed)).astype(np.float32)

    def draw(self, step: int) -> FollowBatch:
        """Return the batch of a step."""
        edges, rng = self._edges, np.random.default_rng((self._seed, step))
        drawn = rng.integers(edges.n_edges, size=self._n_edges)
        followers, followees = edges.followers[drawn], edges.followees[drawn]
        candidates = np.unique(np.concatenate([followees, rng.integers(edges.n_users, size=self._n_random)]))
        users = np.union1d(followers, candidates)
        # What is to be predicted must not be looked at: else a follower's list gives every answer away.
        is_hidden = np.zeros(edges.n_edges, dtype=np.bool_)
        is_hidden[drawn] = True
        positives = np.searchsorted(candidates, followees)
        return FollowBatch(
            sample=self._sampler.draw(users, rng, is_hidden),
            followers=np.searchsorted(users, followers),
            candidates=np.searchsorted(users, candidates),
            positives=positives,
            log_frequencies=self._log_frequencies[candidates],
            is_left_out=self._left_out(followers, candidates, positives),
        )

    def _left_out(self, followers: Int64Array, candidates: Int64Array, positives: Int64Array) -> BoolArray:
        place = np.full(self._edges.n_users, -1, dtype=np.int64)
        place[candidates] = np.arange(len(candidates))
        lists = self._following.take(followers)
        owner, places = lists.row_of_value(), place[lists.values]
        is_left_out = np.zeros((len(followers), len(candidates)), dtype=np.bool_)
        is_left_out[owner[places >= 0], places[places >= 0]] = True
        own = place[followers]
        is_left_out[np.flatnonzero(own >= 0), own[own >= 0]] = True
        is_left_out[np.arange(len(followers)), positives] = False
        return is_left_out
