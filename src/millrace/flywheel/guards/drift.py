"""`DriftWatch`: how far predictions and features have moved from those of a version's first rows.

Histograms alone are kept, of the reference and of the newest rows in two halves of which the older goes when the newer
is full: memory does not grow with traffic. The index is the population stability index over at most ten bins that hold
about as much of the reference each: ``sum (q - p) ln(q / p)``; below 0.1 nothing has moved, above 0.25 much has.

References
----------
Siddiqi: Credit risk scorecards, Wiley 2006. Yurdakul, Naranjo: Statistical properties of the population stability
index, Journal of Risk Model Validation 2020 (what the index is under no change: about bins - 1 times 1/n + 1/m).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.flywheel.metrics import Float64Array, IntArray

N_LEVELS: Final = 256
N_BINS: Final = 10
_SMOOTHING: Final = 0.5
_LOGIT_RANGE: Final = 16.0


class DriftWatch:
    """Histograms of some columns of bytes: first rows, and newest ones.

    Parameters
    ----------
    n_columns
        How many.
    reference_rows
        First rows that the others are compared with.
    drift_rows
        Newest rows, at least; at most twice as many.
    """

    def __init__(self, n_columns: int, reference_rows: int, drift_rows: int) -> None:
        shape = (n_columns, N_LEVELS)
        self._reference: IntArray = np.zeros(shape, dtype=np.int64)
        self._halves: list[IntArray] = [np.zeros(shape, dtype=np.int64) for _ in range(2)]
        self._n_reference = 0
        self._n_halves = [0, 0]
        self._reference_rows, self._drift_rows = reference_rows, drift_rows

    @property
    def is_ready(self) -> bool:
        """Whether there is enough to compare."""
        return self._n_reference >= self._reference_rows and sum(self._n_halves) >= self._drift_rows

    def add(self, levels: npt.NDArray[np.uint8]) -> None:
        """Take rows in, shape (k, n_columns), uint8."""
        if self._n_reference < self._reference_rows:
            _count(self._reference, levels)
            self._n_reference += len(levels)
            return
        _count(self._halves[1], levels)
        self._n_halves[1] += len(levels)
        if self._n_halves[1] >= self._drift_rows:
            self._halves = [self._halves[1], np.zeros_like(self._halves[1])]
            self._n_halves = [self._n_halves[1], 0]

    def begin_with(self, other: DriftWatch) -> None:
        """Take another watch's newest rows as the reference, if it has enough: those of the version before."""
        n = sum(other._n_halves)
        if n >= self._drift_rows:
            self._reference = other._halves[0] + other._halves[1]
            self._n_reference = max(n, self._reference_rows)

    def arrays(self) -> dict[str, IntArray]:
        """Return what it is kept as."""
        counts = np.array([self._n_reference, *self._n_halves], dtype=np.int64)
        return {"reference": self._reference, "halves": np.stack(self._halves), "counts": counts}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises
        ------
        KeyError, ValueError
            If it is of other columns.
        """
        reference, halves = (arrays[name].astype(np.int64) for name in ("reference", "halves"))
        if reference.shape != self._reference.shape or halves.shape != (2, *reference.shape):
            raise ValueError("of other columns")
        self._n_reference, *self._n_halves = (int(count) for count in arrays["counts"])
        self._reference, self._halves = reference, [halves[0], halves[1]]

    def psi(self) -> Float64Array:
        """Return the index of each column, shape (n_columns,); 0 as long as there is not enough to compare."""
        if not self.is_ready:
            return np.zeros(len(self._reference))
        current = self._halves[0] + self._halves[1]
        return np.array([stability_index(p, q) for p, q in zip(self._reference, current, strict=True)])


def stability_index(reference: IntArray, current: IntArray) -> float:
    """Return the population stability index of two histograms over the same levels, less what chance alone gives.

    Examples
    --------
    >>> round(stability_index(np.array([500, 500]), np.array([500, 500])), 3)
    0.0
    >>> round(stability_index(np.array([500, 500]), np.array([900, 100])), 1)
    0.9
    """
    n, m = int(reference.sum()), int(current.sum())
    if not n or not m:
        return 0.0
    before = np.cumsum(reference) - reference
    bins = np.minimum((before + reference / 2) * N_BINS // n, N_BINS - 1).astype(np.int64)
    # Levels that the reference never had stand between its bins; those beyond them all are a bin of their own.
    is_beyond = (np.arange(len(reference)) > np.flatnonzero(reference)[-1]) & (reference == 0)
    is_before = (np.arange(len(reference)) < np.flatnonzero(reference)[0]) & (reference == 0)
    bins = np.where(is_beyond, N_BINS, np.where(is_before, N_BINS + 1, bins))
    p = np.bincount(bins, weights=reference, minlength=N_BINS + 2) + _SMOOTHING
    q = np.bincount(bins, weights=current, minlength=N_BINS + 2) + _SMOOTHING
    n_used = int(((p > 1) | (q > 1)).sum())
    p, q = p / p.sum(), q / q.sum()
    by_chance = max(n_used - 1, 0) * (1 / n + 1 / m)
    return max(float(((q - p) * np.log(q / p)).sum()) - by_chance, 0.0)


def levels_of(probs: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return predictions as bytes: log-odds from -16 to 16 in 256 steps."""
    p = np.clip(probs.astype(np.float64), 1e-7, 1 - 1e-7)
    z = np.log(p) - np.log1p(-p)
    steps = (z + _LOGIT_RANGE) * (N_LEVELS / (2 * _LOGIT_RANGE))
    return np.clip(steps, 0, N_LEVELS - 1).astype(np.uint8)


def _count(counts: IntArray, levels: npt.NDArray[np.uint8]) -> None:
    n_columns = counts.shape[0]
    places = levels.astype(np.int64) + np.arange(n_columns) * N_LEVELS
    counts += np.bincount(places.ravel(), minlength=n_columns * N_LEVELS).reshape(n_columns, N_LEVELS)
