"""Interests: what somebody liked, as a few directions instead of one average that is like nothing of it."""

from __future__ import annotations

import numpy as np

from millrace.base.kernels import njit
from millrace.content.text_kernels import Float32Array


@njit(cache=True)
def interests_of(vectors: Float32Array, weights: Float32Array, max_interests: int, min_cosine: float) -> Float32Array:
    """Group vectors, in their order, and return each group's direction.

    Each vector joins the group that it is most like, if their cosine reaches ``min_cosine`` or there are
    ``max_interests`` groups already; otherwise it begins one.

    Parameters
    ----------
    vectors
        Shape (n, d), float32, of length 1.
    weights
        Shape (n,), float32: how much each counts in its group.
    max_interests, min_cosine
        As above.

    Returns
    -------
    Float32Array
        Shape (at most ``max_interests``, d), of length 1, in the order in which the groups began.
    """
    n_dims = vectors.shape[1]
    sums = np.zeros((max(max_interests, 0), n_dims), dtype=np.float32)
    n = 0
    for i in range(len(vectors)):
        best, best_cosine = -1, np.float32(-2.0)
        for group in range(n):
            dot, square = np.float32(0.0), np.float32(0.0)
            for dim in range(n_dims):
                dot += sums[group, dim] * vectors[i, dim]
                square += sums[group, dim] * sums[group, dim]
            cosine = dot / np.sqrt(square) if square > 0 else np.float32(0.0)
            if cosine > best_cosine:
                best, best_cosine = group, cosine
        if n < len(sums) and best_cosine < min_cosine:
            best = n
            n += 1
        if best >= 0:
            sums[best] += weights[i] * vectors[i]
    for group in range(n):
        square = np.float32(0.0)
        for dim in range(n_dims):
            square += sums[group, dim] * sums[group, dim]
        if square > 0:
            sums[group] /= np.sqrt(square)
    return sums[:n]


def interests_of_reference(
    vectors: Float32Array, weights: Float32Array, max_interests: int, min_cosine: float
) -> Float32Array:
    """Return what `interests_of` returns, up to rounding, in NumPy."""
    groups: list[Float32Array] = []
    for vector, weight in zip(vectors, weights, strict=True):
        cosines = [float(group @ vector / np.linalg.norm(group)) for group in groups]
        if len(groups) < max_interests and max(cosines, default=-2.0) < min_cosine:
            groups.append(weight * vector)
        elif groups:
            groups[int(np.argmax(cosines))] += weight * vector
    if not groups:
        return np.zeros((0, vectors.shape[1]), dtype=np.float32)
    return np.stack([group / np.linalg.norm(group) for group in groups]).astype(np.float32)
