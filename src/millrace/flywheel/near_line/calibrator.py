"""`Calibrator`: Platt's slope and shift of every head, fitted to the newest settled rows again and again.

The fit is drawn to slope 1 and shift 0 as if by some observations more: the ranker's heads are calibrated offline
already, and that is where this begins and where a head without evidence stays. It is bounded, and it forgets: of a
ring of rows the oldest go. A fit goes on from the one before, two Newton steps at a time, which takes milliseconds.

References
----------
Platt: Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers 1999.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.kernels import njit
from millrace.inference.near_line_layer import LEAST, Float32Array

MAX_SHIFT: Final = 2.0
LEAST_SLOPE: Final = 0.5
MOST_SLOPE: Final = 2.0
PRIOR: Final = (20.0, 2.0)
"""How many observations slope 1 and shift 0 weigh, in curvature; as in `millrace.flywheel.platt`."""

_N_STEPS: Final = 2


class Calibrator:
    """Streaming Platt scaling of all heads.

    Parameters
    ----------
    n_heads
        How many.
    n_rows
        Newest rows that the fit is to.

    Attributes
    ----------
    slopes, shifts
        Shape (n_heads,), float32.
    """

    def __init__(self, n_heads: int, n_rows: int) -> None:
        self.slopes: Float32Array = np.ones(n_heads, dtype=np.float32)
        self.shifts: Float32Array = np.zeros(n_heads, dtype=np.float32)
        self._logits = np.zeros((n_rows, n_heads), dtype=np.float32)
        self._labels = np.zeros((n_rows, n_heads), dtype=np.float32)
        self._n = 0

    def add(self, deep: Float32Array, labels: Float32Array) -> None:
        """Take settled rows in: what the ranker predicted, and what happened; shape (k, n_heads) each."""
        n_rows = len(self._logits)
        deep, labels = deep[-n_rows:], labels[-n_rows:]
        at = (self._n + np.arange(len(deep))) % n_rows
        p = np.clip(deep, LEAST, 1.0 - LEAST)
        self._logits[at] = np.log(p) - np.log1p(-p)
        self._labels[at] = labels
        self._n += len(deep)

    def fit(self) -> None:
        """Go on with the fit by two Newton steps."""
        n = min(self._n, len(self._logits))
        if n:
            _fit(self._logits[:n], self._labels[:n], self.slopes, self.shifts, _N_STEPS)

    def probs(self, deep: Float32Array, is_learned: npt.NDArray[np.bool_]) -> Float32Array:
        """Return predictions as the fit would have them, shape (n, n_heads); other heads stay as they are."""
        p = np.clip(deep, LEAST, 1.0 - LEAST)
        z = self.slopes * (np.log(p) - np.log1p(-p)) + self.shifts
        found: Float32Array = np.where(is_learned, 1.0 / (1.0 + np.exp(-z)), deep).astype(np.float32)
        return found

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what it is kept as."""
        return {
            "slopes": self.slopes,
            "shifts": self.shifts,
            "logits": self._logits,
            "labels": self._labels,
            "n": np.array([self._n]),
        }

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave."""
        self.slopes, self.shifts = arrays["slopes"].copy(), arrays["shifts"].copy()
        self._logits, self._labels = arrays["logits"].copy(), arrays["labels"].copy()
        self._n = int(arrays["n"][0])


@njit(cache=True)
def _fit(logits: Float32Array, labels: Float32Array, slopes: Float32Array, shifts: Float32Array, n_steps: int) -> None:
    for h in range(logits.shape[1]):
        a, b = float(slopes[h]), float(shifts[h])
        for _ in range(n_steps):
            ga, gb = PRIOR[0] * (a - 1.0), PRIOR[1] * b
            h_aa, h_ab, h_bb = PRIOR[0], 0.0, PRIOR[1]
            for i in range(len(logits)):
                x = logits[i, h]
                p = 1.0 / (1.0 + math.exp(-(a * x + b)))
                d, v = p - labels[i, h], p * (1.0 - p)
                ga += d * x
                gb += d
                h_aa += v * x * x
                h_ab += v * x
                h_bb += v
            det = h_aa * h_bb - h_ab * h_ab
            da, db = (h_bb * ga - h_ab * gb) / det, (h_aa * gb - h_ab * ga) / det
            a = min(max(a - min(max(da, -0.5), 0.5), LEAST_SLOPE), MOST_SLOPE)
            b = min(max(b - min(max(db, -1.0), 1.0), -MAX_SHIFT), MAX_SHIFT)
        slopes[h], shifts[h] = a, b
