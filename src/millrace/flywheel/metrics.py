"""What a prediction is worth: exact ranking metrics, and how far probabilities are what they say.

Every function takes one label and one score a row and is exact: ties count as ties (half a win in the AUC, one step in
the precision, averaged gains in the NDCG), and nothing is binned but in `expected_calibration_error`. Where a metric
has no value (one class only, nothing to divide by) it is NaN. Intervals: `millrace.flywheel.bootstrap`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are kept this far from 0 and 1 in logarithms: float32 knows nothing closer to 1."""


def auc(is_positive: BoolArray, scores: FloatArray) -> float:
    """Return the area under the ROC curve: how often a positive row has the higher score, ties counting half.

    Computed from ranks (the Mann-Whitney statistic), so exactly, however many rows share a score.

    Parameters
    ----------
    is_positive, scores
        Shape (n,); scores are finite.

    References
    ----------
    Hanley, McNeil: The meaning and use of the area under a receiver operating characteristic curve, Radiology 1982.

    Examples
    --------
    >>> auc(np.array([False, True, True]), np.array([0.1, 0.1, 0.8]))
    0.75
    """
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    rank_sum = float(mean_ranks(scores)[is_positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def mean_ranks(scores: FloatArray) -> Float64Array:
    """Return ascending ranks from 1, shape (n,); equal scores share the mean of theirs."""
    order = np.argsort(scores)
    firsts, sizes = runs(scores[order])
    ranks = np.empty(len(scores), dtype=np.float64)
    ranks[order] = np.repeat(firsts + (sizes + 1) / 2, sizes)
    return ranks


def average_precision(is_positive: BoolArray, scores: FloatArray) -> float:
    """Return the area under the precision-recall curve as average precision: sum of precision x growth of recall.

    Rows of one score enter together, at the precision after the last of them. Shuffled scores give about the share of
    positives.

    References
    ----------
    Davis, Goadrich: The relationship between precision-recall and ROC curves, ICML 2006 (why no trapezoids).
    """
    n_positive = int(is_positive.sum())
    if not n_positive:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    firsts, sizes = runs(scores[order])
    lasts = firsts + sizes
    hits = np.cumsum(is_positive[order])[lasts - 1]
    growth = np.diff(hits, prepend=0)
    return float((hits / lasts * growth).sum() / n_positive)


def cross_entropies(is_positive: BoolArray, probabilities: FloatArray) -> Float64Array:
    """Return each row's cross-entropy in nats, shape (n,), float64."""
    clipped = np.clip(probabilities.astype(np.float64), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return -np.log(np.where(is_positive, clipped, 1 - clipped))


def normalised_entropy(is_positive: BoolArray, probabilities: FloatArray) -> float:
    """Return the cross-entropy over that of always predicting the rows' own base rate; below 1 is better than that.

    References
    ----------
    He et al.: Practical lessons from predicting clicks on ads at Facebook, ADKDD 2014.
    """
    return entropy_ratio(
        float(cross_entropies(is_positive, probabilities).sum()), float(is_positive.sum()), float(len(is_positive))
    )


def entropy_ratio(cross_entropy: float, n_positive: float, n: float) -> float:
    """Return the normalised entropy of sums (weighted ones too): cross-entropy, positives, rows."""
    if not 0 < n_positive < n:
        return float("nan")
    rate = n_positive / n
    return float(cross_entropy / (-n * (rate * np.log(rate) + (1 - rate) * np.log(1 - rate))))


def calibration(labels: FloatArray, predictions: FloatArray) -> float:
    """Return what was predicted over what happened, both summed; 1 is right, 2 is twice too much."""
    happened = float(labels.sum(dtype=np.float64))
    return float(predictions.sum(dtype=np.float64)) / happened if happened > 0 else float("nan")


def equal_count_bins(predictions: FloatArray, n_bins: int) -> IntArray:
    """Return each row's bin by prediction, ascending, shape (n,), int64; equal predictions share a bin."""
    ranks = mean_ranks(predictions)
    return np.minimum((ranks - 0.5) * n_bins // max(len(ranks), 1), n_bins - 1).astype(np.int64)


def expected_calibration_error(labels: FloatArray, predictions: FloatArray, n_bins: int = 10) -> float:
    """Return the mean distance between predicted and real rate over bins of equally many rows, weighted by rows.

    References
    ----------
    Nixon et al.: Measuring calibration in deep learning, CVPR workshops 2019 (bins of equal counts).
    """
    if not len(labels):
        return float("nan")
    bins = equal_count_bins(predictions, n_bins)
    gap = np.bincount(bins, weights=predictions.astype(np.float64) - labels.astype(np.float64), minlength=n_bins)
    return float(np.abs(gap).sum() / len(labels))


def ndcg_of_slates(
    is_positive: BoolArray, scores: FloatArray, slates: IntArray, k: int
) -> tuple[Float64Array, IntArray]:
    """Return NDCG@k of every slate that has a positive row; the others have none and are left out.

    Rows of one score within a slate share the mean of their gains, so the order of the log plays no part.

    Returns
    -------
    values
        Shape (n_slates,), float64, 0 to 1.
    rows
        Shape (n_slates,), int64: one row of each slate, to find out whose it is.

    References
    ----------
    McSherry, Najork: Computing information retrieval performance measures efficiently in the presence of tied scores,
    ECIR 2008.
    """
    order = np.lexsort((-scores, slates))
    slate_starts, slate_sizes = runs(slates[order])
    begins_slate = np.zeros(len(order), dtype=np.bool_)
    begins_slate[slate_starts] = True
    sorted_scores = scores[order]
    begins_tie = begins_slate.copy()
    begins_tie[1:] |= sorted_scores[1:] != sorted_scores[:-1]
    slate_of = np.repeat(np.arange(len(slate_starts)), slate_sizes)
    place = np.arange(len(order)) - slate_starts[slate_of] if len(order) else np.empty(0, dtype=np.int64)
    discounts = np.where(place < k, 1 / np.log2(place + 2.0), 0.0)
    gains = is_positive[order].astype(np.float64)
    ties = np.flatnonzero(begins_tie)
    tie_sizes = np.diff(ties, append=len(order))
    shared = np.repeat(np.add.reduceat(gains, ties) / tie_sizes, tie_sizes) if len(ties) else gains
    got = np.bincount(slate_of, weights=shared * discounts, minlength=len(slate_starts))
    n_positive = np.bincount(slate_of, weights=gains, minlength=len(slate_starts)).astype(np.int64)
    ideal_by_count = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(k) + 2.0))))
    has_positive = n_positive > 0
    ideal = ideal_by_count[np.minimum(n_positive[has_positive], k)]
    return got[has_positive] / ideal, order[slate_starts[has_positive]]


def rank_of(scores: FloatArray, ids: IntArray, row: int) -> int:
    """Return the place of a row from 1 in the one total order: score descending, non-finite last, ties by id."""
    usable = np.where(np.isfinite(scores), scores, -np.inf)
    mine = usable[row]
    return 1 + int((usable > mine).sum()) + int(((usable == mine) & (ids < ids[row])).sum())


def recall_at(ranks: IntArray, k: int) -> float:
    """Return which share of the wanted rows is among the first ``k``, one wanted row a ranking."""
    return float((ranks <= k).mean()) if len(ranks) else float("nan")


def runs(values: npt.NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """Return where runs of equal neighbours begin, and how long they are."""
    if not len(values):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    firsts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return firsts, np.diff(firsts, append=len(values))
