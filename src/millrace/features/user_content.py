"""The content vector of a user: the mean direction of the texts that are theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.content.vectors import N_DIMS
from millrace.features.social_network import Float32Array


def mean_content(user_ids: Int64Array, owner_ids: Int64Array, vectors: npt.NDArray[Any]) -> Float32Array:
    """Return the mean of each user's vectors, at length 1, shape (n_users, 64), float32; zeros for who has none.

    Parameters
    ----------
    user_ids
        Shape (n_users,), int64, ascending, no id twice.
    owner_ids
        Shape (n,), int64: whose each vector is (who wrote the post, or liked it); others than ``user_ids`` are left
        out.
    vectors
        Shape (n, 64): text vectors of one common length, such as those of `millrace.content.vectors.text_vectors`.
    """
    sums = np.zeros((len(user_ids), N_DIMS), dtype=np.float64)
    if len(user_ids):
        rows = np.minimum(np.searchsorted(user_ids, owner_ids), len(user_ids) - 1)
        is_known = user_ids[rows] == owner_ids
        np.add.at(sums, rows[is_known], vectors[is_known])
    lengths = np.sqrt(np.square(sums).sum(axis=1, keepdims=True))
    return (sums / np.where(lengths > 0.0, lengths, 1.0)).astype(np.float32)
