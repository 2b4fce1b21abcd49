"""Intervals by viewer: whole viewers are drawn again and again, for rows of one viewer are not independent.

Each resample gives every viewer a weight drawn from Poisson(1) (the online form of the bootstrap; a viewer's rows all
weigh the same), and the metric is computed anew, exactly, under these weights. The interval is the central part of
what comes out (percentiles). One seed, one set of weights: all metrics, actions and slices of an evaluation are
computed over the same resamples, so differences between two scores may be taken resample by resample.

References
----------
Chamandy, Muralidharan, Najmi, Naidu: Estimating uncertainty for massive data streams, Google 2012 (Poisson bootstrap).
Field, Welsh: Bootstrapping clustered data, JRSS B 2007.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.kernels import njit
from millrace.flywheel.metrics import BoolArray, Float64Array, FloatArray, IntArray

UInt8Array = npt.NDArray[np.uint8]

LEVEL: Final = 0.95

_MIN_FINITE_FRAC: Final = 0.9


class Interval(NamedTuple):
    """A metric's value, and where its true value lies; NaN where there is none."""

    value: float
    low: float
    high: float


class ViewerBootstrap:
    """Weights of viewers, drawn once.

    Parameters
    ----------
    viewers
        Shape (n,), int64: whose each row is.
    n_resamples
        0 gives values without intervals.
    seed
        The same seed and viewers give the same weights.

    Attributes
    ----------
    codes
        Shape (n,), int64: each row's place among the viewers.
    weights
        Shape (n_resamples, n_viewers), uint8.
    """

    def __init__(self, viewers: IntArray, n_resamples: int, seed: int = 1) -> None:
        unique, codes = np.unique(viewers, return_inverse=True)
        self.codes: IntArray = codes.astype(np.int64)
        self.n_viewers = len(unique)
        rng = np.random.default_rng(seed)
        self.weights: UInt8Array = np.empty((n_resamples, self.n_viewers), dtype=np.uint8)
        for resample in self.weights:  # row by row: int64 draws of all at once would take eight times the memory
            resample[:] = rng.poisson(1.0, self.n_viewers)

    def ranking(self, is_positive: BoolArray, scores: FloatArray, rows: IntArray) -> Float64Array:
        """Return AUC and average precision of every resample over some rows, shape (n_resamples, 2), float64."""
        order = np.argsort(-scores, kind="stable")
        sorted_scores = scores[order]
        ends_tie = np.ones(len(order), dtype=np.bool_)
        ends_tie[:-1] = sorted_scores[1:] != sorted_scores[:-1]
        codes = self.codes[rows[order]]
        return ranking_kernel(np.ascontiguousarray(is_positive[order]), ends_tie, codes, self.weights)

    def ratio(self, above: FloatArray, below: FloatArray, rows: IntArray) -> Float64Array:
        """Return the resampled ratios of two summed columns over some rows, shape (n_resamples,), float64."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.sums(above, rows) / self.sums(below, rows)

    def sums(self, column: FloatArray, rows: IntArray) -> Float64Array:
        """Return the resampled sums of a column, given for some rows, shape (n_resamples,), float64."""
        by_viewer = np.bincount(self.codes[rows], weights=column.astype(np.float64), minlength=self.n_viewers)
        return np.array([weights @ by_viewer for weights in self.weights], dtype=np.float64)


def interval(value: float, resampled: Float64Array, level: float = LEVEL) -> Interval:
    """Return the value with its percentile interval; without bounds if too many resamples have no value."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite) or len(finite) < _MIN_FINITE_FRAC * len(resampled):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high)


def _ranking(is_positive: BoolArray, ends_tie: BoolArray, codes: IntArray, weights: UInt8Array) -> Float64Array:
    """Compute AUC and average precision under weights, one pass over rows sorted by descending score a resample."""
    out = np.empty((len(weights), 2), dtype=np.float64)
    for b in range(len(weights)):
        mine = weights[b]
        positive = negative = 0.0
        tied_positive = tied_negative = 0.0
        won = precise = 0.0
        for row in range(len(codes)):
            weight = float(mine[codes[row]])
            if is_positive[row]:
                tied_positive += weight
            else:
                tied_negative += weight
            if ends_tie[row]:
                won += tied_negative * (positive + 0.5 * tied_positive)
                positive += tied_positive
                negative += tied_negative
                if tied_positive > 0.0:
                    precise += tied_positive * positive / (positive + negative)
                tied_positive = tied_negative = 0.0
        out[b, 0] = won / (positive * negative) if positive > 0.0 and negative > 0.0 else np.nan
        out[b, 1] = precise / positive if positive > 0.0 else np.nan
    return out


ranking_kernel: Callable[[BoolArray, BoolArray, IntArray, UInt8Array], Float64Array] = njit(cache=True)(_ranking)
"""`_ranking`, compiled."""


def ranking_reference(
    is_positive: BoolArray, ends_tie: BoolArray, codes: IntArray, weights: UInt8Array
) -> Float64Array:
    """Return what `ranking_kernel` returns, in NumPy: sums by group of ties."""
    out = np.full((len(weights), 2), np.nan)
    if not len(codes):
        return out
    starts = np.concatenate(([0], np.flatnonzero(ends_tie)[:-1] + 1))
    for result, resample in zip(out, weights, strict=True):
        weight = resample[codes].astype(np.float64)
        positive = np.add.reduceat(weight * is_positive, starts)
        negative = np.add.reduceat(weight * ~is_positive, starts)
        above = np.cumsum(positive)
        shown = np.cumsum(positive + negative)
        n_positive, n_negative = positive.sum(), negative.sum()
        if n_positive and n_negative:
            result[0] = (negative * (above - positive / 2)).sum() / (n_positive * n_negative)
        if n_positive:
            result[1] = (positive * above / np.maximum(shown, 1)).sum() / n_positive
    return out
