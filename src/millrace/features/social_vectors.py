"""`SocialVectors`: where users stand in the follow graph, as vectors; refreshed in batches, new users in between.

`SocialVectors.refresh` runs the encoder over the whole graph and keeps, beside the vectors, what each layer read of
every user. From that the vector of somebody who came later is aggregated at once (`SocialVectors.aggregate_new`), the
way the next refresh will find it, apart from what their coming changes in others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.atomic_file import replacing
from millrace.base.errors import SchemaError, StoreError
from millrace.base.ids import Int64Array
from millrace.features.follow_edges import FollowEdges
from millrace.features.social_network import (
    Degrees,
    Float32Array,
    SocialNetwork,
    SocialShape,
    UserContent,
    neighbour_means,
    user_inputs,
)
from millrace.pipeline.ragged import Ragged

BoolArray = npt.NDArray[np.bool_]

FILE_NAME: Final = "social.npz"

_NOTHING_KNOWN: Final = UserContent()
_WEIGHT: Final = "weight:"
_LAYER: Final = "layer:"


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """What each layer read of each user, and what the last gave; users are ``edges``-like rows, ids ascending."""

    user_ids: Int64Array
    layers: tuple[Float32Array, ...]

    def rows_of(self, user_ids: Int64Array) -> Int64Array:
        rows = np.minimum(np.searchsorted(self.user_ids, user_ids), max(len(self.user_ids) - 1, 0))
        if not len(self.user_ids):
            return np.full(len(user_ids), -1, dtype=np.int64)
        return np.where(self.user_ids[rows] == user_ids, rows, -1)


class SocialVectors:
    """The social encoder and the vectors of everybody as of its last refresh.

    Parameters
    ----------
    network
        The encoder.
    """

    def __init__(self, network: SocialNetwork) -> None:
        self.network = network
        shape = network.shape
        widths = [shape.hidden] * shape.n_layers + [shape.dim]
        self._table = _Table(
            np.empty(0, dtype=np.int64), tuple(np.empty((0, width), dtype=np.float32) for width in widths)
        )

    @property
    def dim(self) -> int:
        """The width of a vector."""
        return self.network.shape.dim

    @property
    def user_ids(self) -> Int64Array:
        """Who has a vector, shape (n_users,), int64, ascending."""
        return self._table.user_ids

    def vectors(self, user_ids: Int64Array) -> tuple[Float32Array, BoolArray]:
        """Return the vectors of users, shape (n, dim), float32, of length 1, zeros for none; and who has one, (n,)."""
        table = self._table
        rows = table.rows_of(np.asarray(user_ids, dtype=np.int64))
        has_vector = rows >= 0
        vectors = np.zeros((len(rows), self.dim), dtype=np.float32)
        vectors[has_vector] = table.layers[-1][rows[has_vector]]
        return vectors, has_vector

    def refresh(self, edges: FollowEdges, known: UserContent = _NOTHING_KNOWN) -> None:
        """Compute everybody's vector anew, from all neighbours; readers see all of it or nothing.

        Parameters
        ----------
        edges
            The follow graph.
        known
            What else is known of ``edges.user_ids``.
        """
        network = self.network
        degrees = Degrees(edges.n_following, edges.n_followers)
        following, (followers, _) = edges.following(), edges.followed_by()
        layers = [network.project(user_inputs(edges.user_ids, degrees, known, network.shape))]
        for layer in range(network.shape.n_layers):
            own = layers[-1]
            layers.append(network.layer(layer, own, neighbour_means(own, following), neighbour_means(own, followers)))
        self._table = _Table(edges.user_ids, tuple(layers))

    def aggregate_new(
        self,
        user_ids: Int64Array,
        followees: Ragged,
        *,
        followers: Ragged | None = None,
        known: UserContent = _NOTHING_KNOWN,
    ) -> tuple[Float32Array, BoolArray]:
        """Return the vectors of users who are not in the table yet, or have changed since; nothing is retrained.

        Parameters
        ----------
        user_ids
            Shape (n,), int64.
        followees, followers
            n lists of user ids: whom each follows, and who follows each (None: nobody). Those who are not in the
            table count, but nothing is known of them.
        known
            What else is known of the users.

        Returns
        -------
        tuple
            Vectors, shape (n, dim), float32, zeros for those of whom neither a neighbour nor any content is known; and
            who has one, (n,).

        Raises
        ------
        SchemaError
            If there is not one list for each user.
        """
        table, network = self._table, self.network
        followers = Ragged.empty(len(user_ids), np.dtype(np.int64)) if followers is None else followers
        for name, lists in (("followees", followees), ("followers", followers)):
            if len(lists) != len(user_ids):
                raise SchemaError(
                    f"{name} of new users",
                    value=len(lists),
                    problem=f"not {len(user_ids)} lists",
                    remedy="give one list, which may be empty, for each user",
                )
        degrees = Degrees(followees.lengths, followers.lengths)
        inputs = user_inputs(user_ids, degrees, known, network.shape)
        out_rows, in_rows = self._known_rows(followees), self._known_rows(followers)
        own = network.project(inputs)
        for layer in range(network.shape.n_layers):
            read = table.layers[layer]
            own = network.layer(layer, own, neighbour_means(read, out_rows), neighbour_means(read, in_rows))
        has_vector = (out_rows.lengths + in_rows.lengths) > 0
        if known.content is not None:
            has_vector |= known.content.any(axis=1)
        return np.where(has_vector[:, None], own, np.float32(0.0)), has_vector

    def _known_rows(self, lists: Ragged) -> Ragged:
        """Return the lists as rows of the table, without those who are not in it."""
        rows = self._table.rows_of(lists.values.astype(np.int64))
        is_known = rows >= 0
        offsets = np.concatenate([[0], np.cumsum(is_known)])[lists.offsets].astype(np.int64)
        return Ragged(rows[is_known], offsets)

    def save(self, folder: Path) -> None:
        """Write encoder and vectors into a folder, in place of those that are there."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "shape": np.frombuffer(msgspec.json.encode(self.network.shape), dtype=np.uint8),
            "user_ids": self._table.user_ids,
        }
        arrays |= {f"{_WEIGHT}{name}": weight for name, weight in self.network.weights.items()}
        arrays |= {f"{_LAYER}{layer}": array for layer, array in enumerate(self._table.layers)}
        with replacing(folder / FILE_NAME) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path) -> SocialVectors:
        """Return the encoder and the vectors of a folder.

        Raises
        ------
        StoreError
            If there are none that can be read.
        """
        path = folder / FILE_NAME
        try:
            with np.load(path, allow_pickle=False) as file:
                shape = msgspec.json.decode(file["shape"].tobytes(), type=SocialShape)
                weights = {name: file[f"{_WEIGHT}{name}"] for name in shape.weight_shapes()}
                loaded = cls(SocialNetwork(shape, weights))
                layers = tuple(file[f"{_LAYER}{layer}"] for layer in range(shape.n_layers + 1))
                loaded._table = _Table(file["user_ids"], layers)
                return loaded
        except (OSError, ValueError, KeyError, EOFError, msgspec.MsgspecError, SchemaError) as error:
            raise StoreError(
                "social vectors",
                value=str(path),
                problem=f"cannot be read ({error})",
                remedy="train the encoder: millrace train social",
            ) from error
