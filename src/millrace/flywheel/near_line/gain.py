"""`Gain`: whether one way of predicting beats another, head by head, on rows that neither had learned from.

Prequential (Dawid 1984): every row is predicted before it is learned from. The gain of a head is the summed log loss of
the old way minus that of the new one. Rows of a page are not independent, so that its sum is one observation; older
pages fade. A head is open while the gain's lower bound, so many standard errors below it, is above 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.flywheel.metrics import Float64Array, IntArray

_ARRAYS = ("gain", "squares", "positives", "is_open")


class Gain:
    """Prequential gains of all heads, and which are open.

    Parameters
    ----------
    n_heads
        How many.
    z
        Standard errors that open a head; half as many keep it open.
    min_positives
        Actions that a head must have had.
    n_pages
        Pages after which an observation counts for 1/e.
    """

    def __init__(self, n_heads: int, *, z: float, min_positives: int, n_pages: int) -> None:
        self.gain: Float64Array = np.zeros(n_heads)
        self.squares: Float64Array = np.zeros(n_heads)
        self.positives: Float64Array = np.zeros(n_heads)
        self.is_open: npt.NDArray[np.bool_] = np.zeros(n_heads, dtype=np.bool_)
        self._z, self._min_positives = z, min_positives
        self._keep = float(np.exp(-1.0 / n_pages))

    def lower_bound(self) -> Float64Array:
        """Return each head's gain less ``z`` standard errors, in nats over all pages that count, shape (n_heads,)."""
        bound: Float64Array = self.gain - self._z * np.sqrt(self.squares)
        return bound

    def add(self, old: Float64Array, new: Float64Array, labels: npt.NDArray[np.floating], pages: IntArray) -> None:
        """Take in the losses of settled rows, page after page.

        Parameters
        ----------
        old, new
            Shape (k, n_heads): the rows' log losses.
        labels
            Shape (k, n_heads).
        pages
            Shape (k,): the rows' pages, those of one page together.
        """
        if not len(pages):
            return
        starts = np.flatnonzero(np.concatenate(([True], pages[1:] != pages[:-1])))
        by_page = np.add.reduceat(old - new, starts, axis=0)
        for gains in by_page:
            self.gain *= self._keep
            self.squares *= self._keep * self._keep
            self.gain += gains
            self.squares += gains * gains
        self.positives = self.positives * self._keep ** len(by_page) + labels.sum(axis=0)
        has_seen = self.positives >= self._min_positives
        opens = has_seen & (self.lower_bound() > 0)
        stays = self.is_open & (self.gain - 0.5 * self._z * np.sqrt(self.squares) > 0)
        self.is_open = opens | stays

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what it is kept as."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave."""
        self.gain, self.squares, self.positives, self.is_open = (arrays[name].copy() for name in _ARRAYS)
