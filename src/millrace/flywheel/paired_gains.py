"""`PairedGains`: what one model gains over another on the same rows, with intervals by viewer.

Both are weighed by the same resamples of viewers, so that what makes rows hard is hard for both, and the interval is of
the difference alone (paired bootstrap by cluster; see `millrace.flywheel.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.base.ids import Int64Array
from millrace.flywheel import metrics
from millrace.flywheel.bootstrap import Interval, ViewerBootstrap, interval
from millrace.flywheel.metrics import Float64Array
from millrace.flywheel.sample_set import Float32Array


class PairedGains:
    """Two models on the same rows.

    Parameters
    ----------
    labels, before, after
        Shape (n, n_actions): above 0 is positive; what both predict, finite.
    viewers
        Shape (n,): whose each row is.
    n_resamples, seed
        Of the bootstrap.
    """

    def __init__(
        self,
        labels: Float32Array,
        before: Float32Array,
        after: Float32Array,
        viewers: Int64Array,
        *,
        n_resamples: int,
        seed: int,
    ) -> None:
        self._labels, self._before, self._after = labels, before, after
        self._bootstrap = ViewerBootstrap(viewers, n_resamples, seed)
        self._weights = self._bootstrap.weights.astype(np.float64)

    def entropy(self, heads: Sequence[int], rows: Int64Array) -> Interval:
        """Return by how much normalised entropy is lower after than before, mean over heads; above 0 is better."""
        if not len(heads):
            return Interval(*(float("nan"),) * 3)
        found = [self._entropy(head, rows) for head in heads]
        return interval(float(np.mean([value for value, _ in found])), np.mean([drawn for _, drawn in found], axis=0))

    def auc(self, heads: Sequence[int], rows: Int64Array) -> Interval:
        """Return by how much the AUC is higher after than before, mean over heads."""
        if not len(heads):
            return Interval(*(float("nan"),) * 3)
        values, drawn = [], []
        for head in heads:
            is_positive = np.asarray(self._labels[rows, head] > 0)
            both = [np.asarray(probs[rows, head], dtype=np.float64) for probs in (self._before, self._after)]
            before, after = (self._bootstrap.ranking(is_positive, scores, rows)[:, 0] for scores in both)
            values.append(metrics.auc(is_positive, both[1]) - metrics.auc(is_positive, both[0]))
            drawn.append(after - before)
        return interval(float(np.mean(values)), np.mean(drawn, axis=0))

    def calibration(self, head: int, rows: Int64Array) -> tuple[Interval, Interval]:
        """Return what each model predicted over what happened, before and after, of one head."""
        y = (self._labels[rows, head] > 0).astype(np.float64)
        found = []
        for probs in (self._before, self._after):
            p = np.asarray(probs[rows, head], dtype=np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn = self._summed(p, rows) / self._summed(y, rows)
            found.append(interval(metrics.calibration(y, p), drawn))
        return found[0], found[1]

    def _entropy(self, head: int, rows: Int64Array) -> tuple[float, Float64Array]:
        is_positive = np.asarray(self._labels[rows, head] > 0)
        lost = [metrics.cross_entropies(is_positive, probs[rows, head]) for probs in (self._before, self._after)]
        saved = lost[0] - lost[1]
        n, n_positive = float(len(rows)), float(is_positive.sum())
        value = metrics.entropy_ratio(float(saved.sum()), n_positive, n)
        columns = (saved, is_positive.astype(np.float64), np.ones(len(rows)))
        summed = np.stack([self._summed(column, rows) for column in columns])
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = summed[1] / summed[2]
            entropy = -summed[2] * (rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))
            drawn = np.where((rate > 0) & (rate < 1), summed[0] / entropy, np.nan)
        return value, drawn

    def _summed(self, column: Float64Array, rows: Int64Array) -> Float64Array:
        by_viewer = np.bincount(self._bootstrap.codes[rows], weights=column, minlength=self._bootstrap.n_viewers)
        summed: Float64Array = self._weights @ by_viewer
        return summed
