"""The one total order of ranked things: score descending, non-finite last, ties by id ascending."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def top_k(scores: npt.NDArray[np.floating], ids: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.intp]:
    """Return the positions of the ``k`` best rows, best first.

    Parameters
    ----------
    scores
        Shape (n,); NaN and infinities sort last.
    ids
        Shape (n,), int64; break ties, smaller first, so that equal inputs give equal slates.
    k
        How many at most.

    Notes
    -----
    Partial selection first, O(n + m log m) with m rows at or above the k-th score, so that asking for 50 of
    2,000 does not sort 2,000.
    """
    n = len(scores)
    if k <= 0 or n == 0:
        return np.empty(0, dtype=np.intp)
    usable = np.where(np.isfinite(scores), scores, -np.inf)
    if k < n:
        kth = np.partition(usable, n - k)[n - k]
        rows = np.flatnonzero(usable >= kth)
    else:
        rows = np.arange(n)
    order = np.lexsort((ids[rows], -usable[rows]))
    return rows[order[:k]]
