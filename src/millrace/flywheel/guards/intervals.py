"""Live metrics with standard errors that know of viewers: rows of one viewer are one observation.

Each metric is written as a sum of small contributions (influence values), one a row; its variance is the sum over
viewers of the squared sum of theirs. One sort, no resampling, so that a guard can look every few seconds.

References
----------
DeLong, DeLong, Clarke-Pearson: Comparing the areas under two or more correlated ROC curves, Biometrics 1988.
Obuchowski: Nonparametric analysis of clustered ROC curve data, Biometrics 1997.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from millrace.flywheel.metrics import BoolArray, Float64Array, FloatArray, IntArray, runs

_LEAST: Final = 1e-9


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float

    def above(self, z: float) -> float:
        """Return the interval's upper end."""
        return self.value + z * self.error

    def below(self, z: float) -> float:
        """Return the interval's lower end."""
        return self.value - z * self.error


def auc_parts(is_positive: BoolArray, scores: FloatArray) -> tuple[float, Float64Array]:
    """Return the AUC and each row's influence on it, shape (n,); both classes must be there.

    A positive row's placement is the share of negatives that it beats (ties half), and the other way round; the
    influence is how far its placement lies off the mean, over the number of its class.
    """
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    beaten = _beaten(is_positive, scores)
    area = float(beaten[is_positive].sum()) / (n_positive * n_negative)
    influence = np.where(
        is_positive,
        (beaten / n_negative - area) / n_positive,
        ((n_positive - beaten) / n_positive - area) / n_negative,
    )
    return area, influence


def _beaten(is_positive: BoolArray, scores: FloatArray) -> Float64Array:
    """Return for each row how many of the other class have a lower score, ties half, shape (n,); one sort for both."""
    order = np.argsort(scores)
    firsts, sizes = runs(scores[order])
    before = np.concatenate([[0], np.cumsum(is_positive[order])])  # positives among the lowest
    below = before[firsts]
    positives = (below + before[firsts + sizes]) / 2
    negatives = firsts + sizes / 2 - positives
    found = np.empty(len(scores), dtype=np.float64)
    found[order] = np.where(is_positive[order], np.repeat(negatives, sizes), np.repeat(positives, sizes))
    return found


def clustered_error(influence: Float64Array, clusters: IntArray) -> float:
    """Return the standard error of a metric from each row's influence; rows of a cluster hang together.

    Clusters are numbers from 0, as `clusters_of` gives them; those without rows do no harm.
    """
    sums = np.bincount(clusters, weights=influence)
    n = int(np.count_nonzero(np.bincount(clusters)))
    return float(np.sqrt((sums * sums).sum() * n / max(n - 1, 1))) if n > 1 else float("inf")


def live_auc(is_positive: BoolArray, scores: FloatArray, viewers: IntArray) -> Estimate:
    """Return the AUC over all rows, with its error over viewers."""
    area, influence = auc_parts(is_positive, scores)
    return Estimate(area, clustered_error(influence, viewers))


def clusters_of(ids: IntArray) -> IntArray:
    """Return a small number for each id, the same for the same id, shape (n,), int64."""
    found: IntArray = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    return found


class PairedAuc(NamedTuple):
    """Two predictions of the same rows: the AUC of the first, and how much larger it is than that of the second."""

    area: Estimate
    difference: Estimate


def paired_auc(is_positive: BoolArray, scores: FloatArray, others: FloatArray, viewers: IntArray) -> PairedAuc:
    """Return `live_auc` and `auc_difference` for the price of two areas."""
    (area, influence), (other, other_influence) = auc_parts(is_positive, scores), auc_parts(is_positive, others)
    return PairedAuc(
        Estimate(area, clustered_error(influence, viewers)),
        Estimate(area - other, clustered_error(influence - other_influence, viewers)),
    )


def auc_difference(is_positive: BoolArray, scores: FloatArray, others: FloatArray, viewers: IntArray) -> Estimate:
    """Return how much larger the AUC of ``scores`` is than that of ``others`` on the same rows."""
    return paired_auc(is_positive, scores, others, viewers).difference


def live_calibration(labels: FloatArray, predictions: FloatArray, viewers: IntArray) -> Estimate:
    """Return the logarithm of predicted over happened, both summed, with its error over viewers; 0 is right."""
    predicted, happened = predictions.astype(np.float64), labels.astype(np.float64)
    n_predicted, n_happened = max(float(predicted.sum()), _LEAST), max(float(happened.sum()), _LEAST)
    influence = predicted / n_predicted - happened / n_happened
    return Estimate(float(np.log(n_predicted / n_happened)), clustered_error(influence, viewers))
