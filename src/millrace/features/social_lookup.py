"""`SocialLookup`: the social vectors of a request's users, from the last refresh; of newcomers from their follows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.features.social_network import Float32Array
from millrace.features.social_vectors import SocialVectors
from millrace.pipeline.ragged import Ragged
from millrace.stores.follow_graph import FollowGraph

BoolArray = npt.NDArray[np.bool_]


class SocialLookup:
    """Gives social vectors by one encoder over the follow graph of one process.

    Parameters
    ----------
    vectors
        The encoder and everybody's vectors as of its last refresh.
    graph
        Whom newcomers follow, and who follows them.
    """

    def __init__(self, vectors: SocialVectors, graph: FollowGraph) -> None:
        self._vectors = vectors
        self._graph = graph
        self._n_refreshed = 0

    @property
    def dim(self) -> int:
        """The width of a vector."""
        return self._vectors.dim

    def vectors(self, user_ids: Int64Array) -> tuple[Float32Array, BoolArray]:
        """Return users' vectors, shape (n, dim), float32, zeros for none; and who has one, (n,).

        Those who came after the last refresh are aggregated from whom they follow and who follows them.
        """
        table = self._vectors  # one snapshot for the whole call
        vectors, has_vector = table.vectors(user_ids)
        new = np.flatnonzero(~has_vector & (user_ids != 0))
        if len(new):
            ids = user_ids[new]
            vectors[new], has_vector[new] = table.aggregate_new(
                ids, _lists([self._graph.following(i) for i in ids.tolist()]), followers=self._followers(ids)
            )
        return vectors, has_vector

    def replace(self, vectors: SocialVectors) -> None:
        """Serve newer vectors of the same encoder from now on; requests that are under way see the old or the new."""
        self._vectors = vectors
        self._n_refreshed += 1

    def version(self) -> bytes:
        """Return other bytes after every `replace`."""
        return self._n_refreshed.to_bytes(8, "little")

    def _followers(self, user_ids: Int64Array) -> Ragged:
        return _lists([self._graph.followers(i) for i in user_ids.tolist()])


def _lists(lists: list[Int64Array]) -> Ragged:
    offsets = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids in lists], out=offsets[1:])
    return Ragged(np.concatenate([np.empty(0, dtype=np.int64), *lists]), offsets)
