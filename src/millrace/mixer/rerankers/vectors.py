"""Where re-rankers have the vectors of posts from."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.pipeline.column import BoolArray

Float32Array = npt.NDArray[np.float32]


class PostVectors(Protocol):
    """Knows what posts are about, as directions: the nearer, the more alike."""

    def vectors(self, post_ids: Int64Array) -> tuple[Float32Array, BoolArray]:
        """Return vectors of length 1, shape (n, d), float32, and who has one, shape (n,); zeros for who has none."""


def usable_vectors(source: PostVectors, post_ids: Int64Array) -> tuple[Float32Array, BoolArray]:
    """Return vectors of length 1 and who has one; a vector of no length, or that is not finite, counts as missing."""
    vectors, has = source.vectors(post_ids)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    usable = has & (lengths > 0) & np.isfinite(lengths)
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=usable)
    scaled = vectors if usable.all() else np.where(usable[:, None], vectors, np.float32(0.0))
    return scaled * scale[:, None], usable
