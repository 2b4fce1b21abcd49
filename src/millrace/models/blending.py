"""What counters know beside the network: a share of their log-odds, head by head, found on pages that neither has seen.

A network learns rare actions late: a head with a thousand positives may know less than the post's own counters do. Both
together know more than either (stacking: Wolpert 1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]

LEAST: Final = 1e-6
"""Probabilities are kept this far from 0 and 1."""


def log_odds(probs: Float32Array) -> Float32Array:
    """Return log-odds, shape as given, float32."""
    p = np.clip(probs, LEAST, 1.0 - LEAST)
    odds: Float32Array = np.log(p) - np.log1p(-p)
    return odds


def blended(probs: Float32Array, counters: Float32Array, shares: Sequence[float]) -> Float32Array:
    """Return predictions with the counters' part added.

    Parameters
    ----------
    probs, counters
        Shape (n, n_actions): the network's predictions, and the counters'.
    shares
        Shape (n_actions,): what of the counters' log-odds is added; 0 leaves a head as it is. None at all: all as is.
    """
    which = np.flatnonzero(np.asarray(shares, dtype=np.float32)) if len(shares) else ()
    if not len(which):
        return probs
    share = np.asarray(shares, dtype=np.float32)[which]
    out = probs.copy()
    out[:, which] = 1.0 / (1.0 + np.exp(-(log_odds(probs[:, which]) + share * log_odds(counters[:, which]))))
    return out
