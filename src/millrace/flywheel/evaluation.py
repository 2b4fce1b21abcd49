"""The table of an evaluation: every metric of every head on every slice, with intervals by viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from millrace.flywheel import metrics
from millrace.flywheel.bootstrap import Interval, ViewerBootstrap, interval
from millrace.flywheel.metrics import Float64Array, IntArray
from millrace.flywheel.samples import Head, SampleFacts, slices_of

N_BINS: Final = 10


class EvaluationOptions(Struct, frozen=True, kw_only=True):
    """How to evaluate.

    Attributes
    ----------
    k
        Places of a slate that NDCG looks at.
    n_resamples
        Of the bootstrap; 0 for no intervals.
    min_positives
        With fewer positives (or negatives) a slice gets no numbers.
    seed
        Of the bootstrap and the controls.
    """

    k: int = 10
    n_resamples: int = 200
    min_positives: int = 50
    seed: int = 1


class Estimate(Struct, frozen=True, kw_only=True):
    """A metric with its interval; None where it has no value, or no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, found: Interval) -> Estimate:
        """Return an interval with NaN told as None: JSON knows no NaN."""
        value, low, high = (None if np.isnan(number) else float(number) for number in found)
        return cls(value=value, low=low, high=high)


class EvaluationRow(Struct, frozen=True, kw_only=True):
    """One head on one slice.

    Attributes
    ----------
    action, slice
        What and where.
    n, n_positive, n_viewers, positive_rate
        Rows, positives among them, viewers, and the share of positives (of a continuous head: the mean amount).
    metrics
        Name to estimate; empty where there is too little.
    note
        Why there are no metrics; empty where there are.
    """

    action: str
    slice: str
    n: int
    n_positive: int
    n_viewers: int
    positive_rate: float
    metrics: dict[str, Estimate] = {}
    note: str = ""


def evaluate(
    heads: Sequence[Head],
    facts: SampleFacts,
    language_names: Mapping[int, str],
    options: EvaluationOptions | None = None,
) -> list[EvaluationRow]:
    """Return the table, head by head; rows whose score is not finite are left out of their head."""
    options = options or EvaluationOptions()
    bootstrap = ViewerBootstrap(facts.viewers, options.n_resamples, options.seed)
    slices = slices_of(facts, language_names)
    table = []
    for head in heads:
        is_usable = np.isfinite(head.scores)
        for name, rows in slices.items():
            found = _Slice(head, facts, rows[is_usable[rows]], bootstrap, options)
            table.append(found.row(name))
    return table


class _Slice:
    """One head on one slice, while its row is made."""

    def __init__(
        self, head: Head, facts: SampleFacts, rows: IntArray, bootstrap: ViewerBootstrap, options: EvaluationOptions
    ) -> None:
        self._head = head
        self._rows = rows
        self._bootstrap = bootstrap
        self._options = options
        self._labels = head.labels[rows]
        self._scores = head.scores[rows].astype(np.float64)
        self._is_positive = self._labels > 0
        self._slates = facts.slates[rows]
        self._viewers = facts.viewers[rows]

    def row(self, name: str) -> EvaluationRow:
        """Return the finished row."""
        n, n_positive = len(self._rows), int(self._is_positive.sum())
        note = self._why_not(n, n_positive)
        return EvaluationRow(
            action=self._head.name,
            slice=name,
            n=n,
            n_positive=n_positive,
            n_viewers=len(np.unique(self._viewers)),
            positive_rate=float(self._labels.mean()) if n else 0.0,
            metrics={} if note else {key: Estimate.of(found) for key, found in self._metrics().items()},
            note=note,
        )

    def _why_not(self, n: int, n_positive: int) -> str:
        wanted = max(self._options.min_positives, 1)
        if n_positive < wanted:
            return f"too few positives: {n_positive} of at least {wanted}"
        if not self._head.is_continuous and n - n_positive < wanted:
            return f"too few negatives: {n - n_positive} of at least {wanted}"
        return ""

    def _metrics(self) -> dict[str, Interval]:
        if self._head.is_continuous:
            return {"calibration": self._calibration()}
        resampled = self._bootstrap.ranking(self._is_positive, self._scores, self._rows)
        found = {
            "auc": interval(metrics.auc(self._is_positive, self._scores), resampled[:, 0]),
            "pr_auc": interval(metrics.average_precision(self._is_positive, self._scores), resampled[:, 1]),
        }
        if self._head.is_probability:
            found["normalised_entropy"] = self._normalised_entropy()
            found["calibration"] = self._calibration()
            found["calibration_error"] = self._calibration_error()
        found[f"ndcg@{self._options.k}"] = self._ndcg()
        return found

    def _normalised_entropy(self) -> Interval:
        losses = metrics.cross_entropies(self._is_positive, self._scores)
        sums = self._bootstrap.sums
        columns = (losses, self._is_positive.astype(np.float64), np.ones(len(self._rows)))
        resampled = np.array(
            [metrics.entropy_ratio(*three) for three in zip(*(sums(column, self._rows) for column in columns))]  # noqa: B905
        )
        return interval(metrics.normalised_entropy(self._is_positive, self._scores), resampled)

    def _calibration(self) -> Interval:
        resampled = self._bootstrap.ratio(self._scores, self._labels, self._rows)
        return interval(metrics.calibration(self._labels, self._scores), resampled)

    def _calibration_error(self) -> Interval:
        bins = metrics.equal_count_bins(self._scores, N_BINS)
        gaps: Float64Array = np.zeros(self._options.n_resamples)
        for number in range(N_BINS):
            gap = np.where(bins == number, self._scores - self._labels, 0.0)
            gaps += np.abs(self._bootstrap.sums(gap, self._rows))
        with np.errstate(divide="ignore", invalid="ignore"):
            resampled = gaps / self._bootstrap.sums(np.ones(len(self._rows)), self._rows)
        return interval(metrics.expected_calibration_error(self._labels, self._scores, N_BINS), resampled)

    def _ndcg(self) -> Interval:
        values, firsts = metrics.ndcg_of_slates(self._is_positive, self._scores, self._slates, self._options.k)
        resampled = self._bootstrap.ratio(values, np.ones(len(values)), self._rows[firsts])
        return interval(float(values.mean()) if len(values) else float("nan"), resampled)
