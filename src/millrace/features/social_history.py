"""`SocialHistory`: social vectors as of several moments, so that no sample reads a vector from after its time.

Written by `millrace train social`, beside the encoder that made them all; read by whatever trains on samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.atomic_file import replacing
from millrace.base.errors import StoreError
from millrace.base.ids import Int64Array
from millrace.features.social_graph import SocialGraph
from millrace.features.social_network import Float32Array, SocialNetwork
from millrace.features.social_vectors import SocialVectors

BoolArray = npt.NDArray[np.bool_]

FILE_NAME: Final = "social_history.npz"


@dataclass(frozen=True, slots=True, eq=False)
class SocialHistory:
    """Vectors of one encoder, taken again and again.

    Attributes
    ----------
    encoder
        Digest of the encoder (`SocialNetwork.digest`).
    learned_until_ms
        The encoder was learned from a graph of this moment: what it is judged on, directly or through another model,
        must lie after it.
    as_of_ms
        Shape (n_moments,), int64, ascending.
    starts
        Shape (n_moments + 1,): users of moment ``k`` are ``starts[k]:starts[k + 1]``.
    user_ids, values
        Shape (n,), int64, ascending within a moment; and (n, dim), float32.
    """

    encoder: str
    learned_until_ms: int
    as_of_ms: Int64Array
    starts: Int64Array
    user_ids: Int64Array
    values: Float32Array

    @classmethod
    def of(
        cls, network: SocialNetwork, learned_until_ms: int, moments: Sequence[tuple[int, SocialGraph]]
    ) -> SocialHistory:
        """Return the vectors of everybody at each moment, by one encoder.

        Parameters
        ----------
        network
            The encoder.
        learned_until_ms
            The moment of the graph that it was learned from.
        moments
            Times, ascending, and the graph then.
        """
        ids, values = [], []
        for _, graph in moments:
            vectors = SocialVectors(network)
            vectors.refresh(graph.edges, graph.known)
            ids.append(vectors.user_ids)
            values.append(vectors.vectors(vectors.user_ids)[0])
        return cls(
            encoder=network.digest(),
            learned_until_ms=learned_until_ms,
            as_of_ms=np.array([as_of_ms for as_of_ms, _ in moments], dtype=np.int64),
            starts=np.cumsum([0, *map(len, ids)], dtype=np.int64),
            user_ids=np.concatenate([*ids, np.empty(0, dtype=np.int64)]),
            values=np.concatenate([*values, np.empty((0, network.shape.dim), dtype=np.float32)]),
        )

    @property
    def dim(self) -> int:
        """The width of a vector."""
        width: int = self.values.shape[1]
        return width

    def vectors(self, user_ids: Int64Array, now_ms: Int64Array) -> tuple[Float32Array, BoolArray]:
        """Return users' vectors as of the newest moment that is not after each one's time; zeros where there is none.

        Parameters
        ----------
        user_ids, now_ms
            Shape (n,), int64.

        Returns
        -------
        tuple
            Shape (n, dim), float32; and who has one, (n,).
        """
        vectors = np.zeros((len(user_ids), self.dim), dtype=np.float32)
        has_vector = np.zeros(len(user_ids), dtype=np.bool_)
        moments = np.searchsorted(self.as_of_ms, now_ms, side="right") - 1
        for moment in np.unique(moments[moments >= 0]).tolist():
            of_moment = np.flatnonzero(moments == moment)
            first, end = int(self.starts[moment]), int(self.starts[moment + 1])
            if first == end:
                continue
            rows = first + np.minimum(np.searchsorted(self.user_ids[first:end], user_ids[of_moment]), end - first - 1)
            is_known = self.user_ids[rows] == user_ids[of_moment]
            vectors[of_moment[is_known]] = self.values[rows[is_known]]
            has_vector[of_moment] = is_known
        return vectors, has_vector

    def save(self, folder: Path) -> None:
        """Write the history into a folder, in place of the one that is there."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / FILE_NAME) as file:
            np.savez(
                file,
                encoder=np.array(self.encoder),
                learned_until_ms=np.array(self.learned_until_ms),
                as_of_ms=self.as_of_ms,
                starts=self.starts,
                user_ids=self.user_ids,
                values=self.values,
            )

    @classmethod
    def load(cls, folder: Path) -> SocialHistory:
        """Return the history of a folder.

        Raises
        ------
        StoreError
            If there is none that can be read.
        """
        path = folder / FILE_NAME
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(
                    str(file["encoder"]),
                    int(file["learned_until_ms"]),
                    *(file[name] for name in ("as_of_ms", "starts", "user_ids", "values")),
                )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise StoreError(
                "social vectors of several moments",
                value=str(path),
                problem=f"cannot be read ({error})",
                remedy="train the encoder: millrace train social",
            ) from error
