"""`VectorInputs`: where a model that serves finds vectors of posts and users, beside what is encoded.

All are places: a model has them if it was trained with them, and what is absent is zeros and, for media, a flag of 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError
from millrace.base.ids import Int64Array

T = TypeVar("T", bound=np.generic)

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Int16Array = npt.NDArray[np.int16]
Int8Array = npt.NDArray[np.int8]
UInt16Array = npt.NDArray[np.uint16]

CodesOf = Callable[[Int64Array], Int16Array]
"""From post ids, shape (n,), to semantic ids, (n, n_levels), int16, -1 for none: ``SemanticIdCache.codes``."""

VectorsOf = Callable[[Int64Array], tuple[Float32Array, BoolArray]]
"""From ids, shape (n,), to vectors, (n, width), float32, zeros for none, and who or what has one, (n,)."""


WholeVectorsOf = Callable[[Int64Array], Int8Array]
"""From ids, shape (n,), to vectors as they are kept, (n, width), int8, zeros for none."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorInputs:
    """Look-ups over the state of one process, for one version of a model.

    Attributes
    ----------
    codes_of
        Semantic ids of posts, by the codebooks that the model was trained with.
    social_of
        Social vectors of users, by the encoder that the model was trained with: `SocialLookup.vectors`.
    media_of
        Vectors of what is attached to posts.
    texts_of
        Vectors of posts' texts, made here or annotated: ``TextIndex.whole_vectors``.
    version
        Changes whenever the same user may have another social vector: part of the key of cached encodings.
    """

    codes_of: CodesOf | None = None
    social_of: VectorsOf | None = None
    media_of: VectorsOf | None = None
    texts_of: WholeVectorsOf | None = None
    version: Callable[[], bytes] = bytes

    def codes(self, post_ids: Int64Array) -> Int16Array:
        """Return semantic ids of posts, for a model that reads them.

        Raises
        ------
        SchemaError
            If nothing gives them: a model must not be served without what it learned from.
        """
        if self.codes_of is None:
            raise SchemaError(
                "semantic ids",
                problem="are read by the model, and nothing gives them",
                remedy="give `VectorInputs` the codes of its codebooks",
            )
        return self.codes_of(post_ids)

    def social(self, user_ids: Int64Array, width: int) -> Float32Array:
        """Return social vectors of users, shape (n, width), for a model that reads them; zeros for who has none.

        Raises
        ------
        SchemaError
            If nothing gives them, or they are of another width.
        """
        if self.social_of is None:
            raise SchemaError(
                "social vectors",
                problem="are read by the model, and nothing gives them",
                remedy="give `VectorInputs` the vectors of its encoder",
            )
        vectors, _ = self.social_of(user_ids)
        return _of_width("social vectors", vectors, width)

    def texts(self, post_ids: Int64Array, width: int) -> Float32Array:
        """Return text vectors of posts, shape (n, width), for a model that reads them; zeros for a post without one.

        Raises
        ------
        SchemaError
            If nothing gives them, or they are of another width.
        """
        if self.texts_of is None:
            raise SchemaError(
                "text vectors",
                problem="are read by the model, and nothing gives them",
                remedy="give `VectorInputs` the vectors of the text index",
            )
        return text_floats(_of_width("text vectors", self.texts_of(post_ids), width))

    def key(self, post_ids: Int64Array) -> UInt16Array:
        """Return what tells two versions of posts' vectors apart, shape (n, k), uint16: part of the key of caches.

        Semantic ids are codes of text vectors; a change of anything else changes `version`.
        """
        if self.texts_of is None:
            return np.zeros((len(post_ids), 0), dtype=np.uint16)
        return np.ascontiguousarray(self.texts_of(post_ids)).view(np.uint16)

    def media(self, post_ids: Int64Array, width: int) -> Float32Array:
        """Return media vectors of posts and, last, which have one, shape (n, width + 1); nothing but zeros for none."""
        return masked(self.media_of, post_ids, width)


TEXT_SCALE: Final = np.float32(8.0)
"""Text vectors have length 1; their 64 numbers enter times this, as large as everything else."""

NOTHING: Final = VectorInputs()


def text_floats(whole: Int8Array) -> Float32Array:
    """Return text vectors as models read them, shape as given, float32: of length `TEXT_SCALE`, or zeros for none.

    Parameters
    ----------
    whole
        As they are kept: whole numbers, shape (n, width).
    """
    floats = whole.astype(np.float32)
    lengths = np.sqrt(np.square(floats).sum(axis=1, keepdims=True))
    scaled: Float32Array = TEXT_SCALE * floats / np.maximum(lengths, np.float32(1.0))
    return scaled


def masked(vectors_of: VectorsOf | None, ids: Int64Array, width: int) -> Float32Array:
    """Return vectors and, as one more column, 1 where there is one, shape (n, width + 1), float32; zeros where none is.

    Raises
    ------
    SchemaError
        If the vectors are of another width.
    """
    floats = np.zeros((len(ids), width + 1), dtype=np.float32)
    if vectors_of is not None:
        vectors, has_vector = vectors_of(ids)
        floats[:, :width] = np.where(has_vector[:, None], _of_width("media vectors", vectors, width), np.float32(0.0))
        floats[:, width] = has_vector
    return floats


def _of_width(thing: str, vectors: npt.NDArray[T], width: int) -> npt.NDArray[T]:
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise SchemaError(
            thing,
            value=vectors.shape,
            problem=f"not of the width {width} that the model reads",
            remedy="serve the vectors that it was trained with, or train it anew",
        )
    return vectors
