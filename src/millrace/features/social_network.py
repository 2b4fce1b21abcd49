"""The social encoder without torch: its inputs, its weights, and what it makes of them, in NumPy.

GraphSAGE (Hamilton, Ying and Leskovec 2017) over the follow graph: a layer combines what a user is with the means of
those whom they follow and of those who follow them, and every output has length 1. Nothing of a user is looked up by
id, so a user who was never seen has a vector at once:

- how many they follow and are followed by, as log2 buckets and as a number,
- a content vector (such as the mean of what they wrote or liked), where there is one,
- languages, where they are known,
- a *signature*: 128 signs that the hash of their id decides. It says nothing by itself; the mean of the signatures of
  those whom somebody follows is a sketch of the whole list, and lists with many members in common have sketches that
  are alike (a random projection of the adjacency matrix, as in FastRP: Chen et al. 2019).

The networks of `millrace.models.social` compute the same, with sampled neighbours while they learn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from millrace.base.errors import SchemaError
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.base.tokens import mixed
from millrace.pipeline.ragged import Ragged

Float32Array = npt.NDArray[np.float32]

N_CONTENT: Final = 64
"""Dimensions of a content vector: those of `millrace.content.vectors`."""

MIN_LENGTH: Final = 1e-6
"""Vectors that are shorter are left at the length that they have relative to it."""

_N_BUCKETS: Final = 16
_SIGNATURE_SALT: Final = np.uint64(0x2C9F5B1D83E604A7)
_WORD_BITS: Final = 64


class SocialShape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a social encoder reads and gives."""

    n_layers: Annotated[int, Meta(ge=1)] = 3
    dim: Annotated[int, Meta(ge=1, description="width of a social vector")] = 32
    hidden: Annotated[int, Meta(ge=1, description="width between layers")] = 64
    n_signature: Annotated[int, Meta(ge=0, multiple_of=64, description="signs of the hash of an id")] = 128
    n_languages: Annotated[int, Meta(ge=0, description="0: languages are not read")] = 0

    @property
    def n_inputs(self) -> int:
        """Floats that are read of a user."""
        return 2 * (_N_BUCKETS + 1) + N_CONTENT + 1 + self.n_signature + self.n_languages

    def width(self, layer: int) -> int:
        """Return the width of what a layer gives."""
        return self.dim if layer == self.n_layers - 1 else self.hidden

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of all weights; matrices are (outputs, inputs), as torch has them."""
        shapes: dict[str, tuple[int, ...]] = {
            "inputs.weight": (self.hidden, self.n_inputs),
            "inputs.bias": (self.hidden,),
        }
        for layer in range(self.n_layers):
            shapes[f"layers.{layer}.weight"] = (self.width(layer), 3 * self.hidden)
            shapes[f"layers.{layer}.bias"] = (self.width(layer),)
        shapes["as_follower.weight"] = shapes["as_followee.weight"] = (self.dim, self.dim)
        shapes["appeal.weight"], shapes["appeal.bias"] = (1, self.dim), (1,)
        shapes["log_scale"] = ()
        return shapes


class UserContent(NamedTuple):
    """What is known of users beside the graph; None where nothing is.

    Attributes
    ----------
    content
        Shape (n_users, 64), float32: content vectors, zeros where there is none.
    languages
        Shape (n_users, n_languages), float32, one or more ones each.
    """

    content: Float32Array | None = None
    languages: Float32Array | None = None


class Degrees(NamedTuple):
    """How many each user follows and is followed by; shape (n_users,), int64, each."""

    n_following: Int64Array
    n_followers: Int64Array


def user_inputs(user_ids: Int64Array, degrees: Degrees, known: UserContent, shape: SocialShape) -> Float32Array:
    """Return what the encoder reads of users, shape (n_users, n_inputs), float32.

    Raises
    ------
    SchemaError
        If ``known`` does not fit the users or the shape.
    """
    n = len(user_ids)
    content = np.zeros((n, N_CONTENT), dtype=np.float32) if known.content is None else known.content
    languages = np.zeros((n, shape.n_languages), dtype=np.float32) if known.languages is None else known.languages
    for name, array, width in (("content", content, N_CONTENT), ("languages", languages, shape.n_languages)):
        if array.shape != (n, width):
            raise SchemaError(
                f"{name} of users",
                value=array.shape,
                problem=f"not of shape ({n}, {width})",
                remedy="give one row for each user, in the order of the user ids",
            )
    has_content = (content != 0).any(axis=1)
    return np.concatenate(
        [
            _degree_inputs(degrees.n_following),
            _degree_inputs(degrees.n_followers),
            content.astype(np.float32),
            has_content[:, None].astype(np.float32),
            signatures(user_ids, shape.n_signature),
            languages.astype(np.float32),
        ],
        axis=1,
    )


def _degree_inputs(degrees: Int64Array) -> Float32Array:
    """Return log2 buckets (0; 1; 2-3; 4-7; ...) as ones and zeros, and the log itself, shape (n, 17), float32."""
    inputs = np.zeros((len(degrees), _N_BUCKETS + 1), dtype=np.float32)
    buckets = np.frexp(degrees.astype(np.float64))[1]
    inputs[np.arange(len(degrees)), np.minimum(buckets, _N_BUCKETS - 1)] = 1.0
    inputs[:, _N_BUCKETS] = np.log1p(degrees) / 10.0
    return inputs


def signatures(user_ids: Int64Array, n_signs: int) -> Float32Array:
    """Return the signatures of users: signs, each of size ``n_signs ** -0.5``, shape (n, n_signs), float32."""
    words = _signature_words(np.asarray(user_ids, dtype=np.int64), n_signs // _WORD_BITS)
    bits = (words[:, :, None] >> np.arange(_WORD_BITS, dtype=np.uint64)) & np.uint64(1)
    signs = 2.0 * bits.reshape(len(user_ids), n_signs).astype(np.float32) - 1.0
    scaled: Float32Array = (signs / np.sqrt(max(n_signs, 1))).astype(np.float32)
    return scaled


@njit(cache=True)
def _signature_words(user_ids: Int64Array, n_words: int) -> npt.NDArray[np.uint64]:
    words = np.empty((len(user_ids), n_words), dtype=np.uint64)
    for i in range(len(user_ids)):
        for k in range(n_words):
            words[i, k] = mixed(mixed(np.uint64(user_ids[i]) ^ _SIGNATURE_SALT) + np.uint64(k))
    return words


class SocialNetwork:
    """The weights of an encoder, and what they make of inputs.

    Parameters
    ----------
    shape
        What it reads and gives.
    weights
        By name, of the shapes of `SocialShape.weight_shapes`, float32.

    Raises
    ------
    SchemaError
        If a weight is missing, of another shape, or not finite.
    """

    def __init__(self, shape: SocialShape, weights: Mapping[str, Float32Array]) -> None:
        for name, wanted in shape.weight_shapes().items():
            if name not in weights or weights[name].shape != wanted or not np.isfinite(weights[name]).all():
                raise SchemaError(
                    f"social encoder weight {name}",
                    value=weights[name].shape if name in weights else None,
                    problem=f"missing or not finite numbers of shape {wanted}",
                    remedy="train the encoder anew: millrace train social",
                )
        self.shape = shape
        self.weights = {name: np.asarray(weights[name], dtype=np.float32) for name in shape.weight_shapes()}

    def digest(self) -> str:
        """Return 32 hexadecimal digits that are other ones for other weights: vectors of two encoders do not mix."""
        digest = hashlib.blake2b(msgspec.json.encode(self.shape), digest_size=16)
        for name in self.shape.weight_shapes():
            digest.update(np.ascontiguousarray(self.weights[name]).tobytes())
        return digest.hexdigest()

    def project(self, inputs: Float32Array) -> Float32Array:
        """Return what the first layer reads of users, shape (n, hidden), float32, from (n, n_inputs)."""
        return normalised(inputs @ self.weights["inputs.weight"].T + self.weights["inputs.bias"])

    def layer(self, layer: int, own: Float32Array, following: Float32Array, followers: Float32Array) -> Float32Array:
        """Return what a layer gives, shape (n, hidden or dim), float32.

        Parameters
        ----------
        layer
            Which, from 0.
        own, following, followers
            Shape (n, hidden): what it reads of the users themselves, and the means of what it reads of those whom
            they follow and of those who follow them (zeros for nobody).
        """
        read = np.concatenate([own, following, followers], axis=1)
        given = read @ self.weights[f"layers.{layer}.weight"].T + self.weights[f"layers.{layer}.bias"]
        if layer < self.shape.n_layers - 1:
            given = np.maximum(given, 0.0)
        return normalised(given)

    def follow_scores(self, followers: Float32Array, followees: Float32Array) -> Float32Array:
        """Return logits of following, shape (n, m), float32, from vectors (n, dim) and (m, dim)."""
        weights = self.weights
        as_follower = followers @ weights["as_follower.weight"].T
        as_followee = followees @ weights["as_followee.weight"].T
        appeal = followees @ weights["appeal.weight"][0] + weights["appeal.bias"][0]
        scale = np.float32(np.exp(weights["log_scale"]))
        scores: Float32Array = as_follower @ as_followee.T * scale + appeal
        return scores


def normalised(vectors: Float32Array) -> Float32Array:
    """Return vectors at length 1, shape (n, d), float32."""
    lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    unit: Float32Array = (vectors / np.maximum(lengths, np.float32(MIN_LENGTH))).astype(np.float32)
    return unit


def neighbour_means(values: Float32Array, neighbours: Ragged) -> Float32Array:
    """Return the mean of the rows that each list names, shape (n_lists, d), float32; zeros for empty lists."""
    return _means(np.ascontiguousarray(values), neighbours.values.astype(np.int64), neighbours.offsets)


def neighbour_means_reference(values: Float32Array, neighbours: Ragged) -> Float32Array:
    """Return what `neighbour_means` returns, but for rounding, in NumPy; the rows are gathered all at once."""
    means = np.zeros((len(neighbours), values.shape[1]), dtype=np.float32)
    rows = np.flatnonzero(neighbours.lengths)
    if len(rows):
        sums = np.add.reduceat(values[neighbours.values], neighbours.offsets[rows], axis=0)
        means[rows] = sums / neighbours.lengths[rows, None].astype(np.float32)
    return means


@njit(cache=True)
def _means(values: Float32Array, rows: Int64Array, offsets: Int64Array) -> Float32Array:
    n_lists, n_dims = len(offsets) - 1, values.shape[1]
    means = np.zeros((n_lists, n_dims), dtype=np.float32)
    for i in range(n_lists):
        first, end = offsets[i], offsets[i + 1]
        if first == end:
            continue
        for k in range(first, end):
            row = rows[k]
            for d in range(n_dims):
                means[i, d] += values[row, d]
        share = np.float32(1.0) / np.float32(end - first)
        for d in range(n_dims):
            means[i, d] *= share
    return means
