"""What a pre-ranker's inputs hold besides the vectors of posts, written in one pass; needs no ONNX Runtime."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit
from millrace.features.encoding.buckets import SCALE, UInt8Array
from millrace.features.encoding.hashing import id_row
from millrace.inference.tables import Float32Array
from millrace.models.config import N_SURFACES

UInt64Array = npt.NDArray[np.uint64]

_SCALE: Final = np.float32(SCALE)


@njit(cache=True)
def add_deeds(
    tokens: Float32Array,
    author_ids: Int64Array,
    actions: UInt64Array,
    dense: UInt8Array,
    surfaces: UInt8Array,
    authors: Float32Array,
    n_actions: int,
) -> None:
    """Add authors to the vectors that are there, and write behind them what was done, when, and on which surface."""
    d, n_dense = authors.shape[1], dense.shape[1]
    for i in range(len(tokens)):
        first, second = id_row(author_ids[i], 0, len(authors)), id_row(author_ids[i], 1, len(authors))
        for k in range(d):
            tokens[i, k] += authors[first, k] + authors[second, k]
        for action in range(n_actions):
            tokens[i, d + action] = np.float32(actions[i] >> np.uint64(action) & np.uint64(1))
        at = d + n_actions
        for j in range(n_dense):
            tokens[i, at + j] = np.float32(dense[i, j]) * _SCALE
        tokens[i, at + n_dense :] = 0.0
        if surfaces[i]:
            tokens[i, at + n_dense + surfaces[i] % N_SURFACES] = 1.0


@njit(cache=True)
def add_rest(
    out: Float32Array,
    author_ids: Int64Array,
    languages: UInt8Array,
    dense: UInt8Array,
    authors: Float32Array,
    language_rows: Float32Array,
) -> None:
    """Add authors and languages to the vectors that are there, and write the dense fields behind them."""
    d = authors.shape[1]
    for i in range(len(out)):
        first, second = id_row(author_ids[i], 0, len(authors)), id_row(author_ids[i], 1, len(authors))
        language = languages[i]
        for k in range(d):
            out[i, k] += authors[first, k] + authors[second, k] + language_rows[language, k]
        for j in range(dense.shape[1]):
            out[i, d + j] = np.float32(dense[i, j]) * _SCALE
