"""`Delays`: which actions come when their row is settled already."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_MIN_LATE: Final = 20
_MAX_SHARE: Final = 0.1
_MEMORY: Final = 4_000.0
"""Actions of a head, about, that its share is of: beyond, both counts are halved."""


class Delays:
    """Counts, head by head, the actions that settled rows knew, and those that came later.

    Parameters
    ----------
    n_heads
        How many heads.

    Attributes
    ----------
    counts
        Shape (2, n_heads): in time, late.
    """

    def __init__(self, n_heads: int) -> None:
        self.counts: npt.NDArray[np.float64] = np.zeros((2, n_heads))

    def in_time(self, labels: npt.NDArray[np.floating]) -> None:
        """Count what rows knew when they were settled; labels are (k, n_heads)."""
        self.counts[0] += (labels > 0.5).sum(axis=0)
        self.counts[:, self.counts.sum(axis=0) > _MEMORY] /= 2

    def late(self, head: int) -> None:
        """Count an action whose row was settled before."""
        self.counts[1, head] += 1

    @property
    def is_slow(self) -> npt.NDArray[np.bool_]:
        """Shape (n_heads,): more than a tenth of a head's actions come late, and that is no chance."""
        late = self.counts[1]
        found: npt.NDArray[np.bool_] = (late >= _MIN_LATE) & (late > _MAX_SHARE * self.counts.sum(axis=0))
        return found
