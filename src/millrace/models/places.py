"""Places of tokens as turns: rotary positions (Su et al. 2021), in one layout for training and every exported form.

Of each head's pairs the first half is turned, at rates from one place to thousands; the others are not, so that what a
token is about can be compared however long ago it was (partial rotary, as in GPT-NeoX).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]

BASE: Final = 10_000.0


def turns(max_history: int, d_head: int) -> tuple[Float32Array, Float32Array]:
    """Return cosines and sines of a viewer's places, shape (max_history + 1, d_head / 2) each, float32.

    The first row is the profile's, the last one the newest event's. Candidates stand behind it and are not turned.
    """
    half = d_head // 2
    n_turned = max(half // 2, 1)
    rates = np.zeros(half)
    rates[:n_turned] = BASE ** (-np.arange(n_turned) / n_turned)
    angles = np.arange(-max_history - 1, 0, dtype=np.float64)[:, None] * rates
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
