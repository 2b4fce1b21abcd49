"""How much more a ranker knows than calibrated counters, and whether that could be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array

_LEAST: Final = 1e-7
_SURE: Final = 1.645
"""Standard errors: one-sided, 95 %."""


class EntropyGain(NamedTuple):
    """By how much normalised entropy is lower than the counters', in the mean over heads; above 0: a ranker knows more.

    Attributes
    ----------
    value
        0 without any head.
    low
        The value is above this in 95 of 100 cases, pages being what is drawn; minus infinity from fewer than two pages.
    """

    value: float
    low: float


def entropy_gain(
    labels: npt.NDArray[np.floating],
    probs: npt.NDArray[np.floating],
    counters: npt.NDArray[np.floating],
    slate_of: Int64Array,
    heads: Sequence[int],
) -> EntropyGain:
    """Return what a ranker knows beyond counters on rows that neither has seen.

    Parameters
    ----------
    labels, probs, counters
        Shape (n, n_actions): above 0 is a positive; predictions of the ranker, and of the counters, calibrated.
    slate_of
        Shape (n,): the page of each row. Rows of one page are not independent: pages are drawn, not rows.
    heads
        Columns that are judged; each has positives and negatives.
    """
    gains = np.zeros(len(labels))
    for head in heads:
        y = (np.asarray(labels[:, head]) > 0).astype(np.float64)
        base = y.mean()
        entropy = -base * math.log(base) - (1.0 - base) * math.log1p(-base)
        gains += (_losses(y, counters[:, head]) - _losses(y, probs[:, head])) / (entropy * len(y) * len(heads))
    _, page = np.unique(slate_of, return_inverse=True)
    by_page = np.bincount(page, weights=gains)
    n, value = len(by_page), float(gains.sum())
    if n < 2:
        return EntropyGain(value, -math.inf)
    error = math.sqrt(n / (n - 1) * float(np.square(by_page - by_page.mean()).sum()))
    return EntropyGain(value, value - _SURE * error)


def _losses(y: npt.NDArray[np.float64], probs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    p = np.clip(np.asarray(probs, dtype=np.float64), _LEAST, 1.0 - _LEAST)
    losses: npt.NDArray[np.float64] = -y * np.log(p) - (1.0 - y) * np.log1p(-p)
    return losses
