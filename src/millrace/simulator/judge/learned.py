"""What predictions are worth against the truth: how much of what is to be learned has been learned.

Every prediction is held against the probability with which the world would really act, on rows that were seen: no
noise of clicks is in any figure. The cross-entropy of predictions ``q`` against true probabilities ``p`` is the mean of
``-p log q - (1 - p) log(1 - q)``; that of the truth itself is the floor. The *gap* is what the counters' predictions
lie above that floor, and a prediction closes a share of it. Counters that have been calibrated by two numbers close
some of it without having learned anything about anybody, so the share of what *they* leave is told too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.simulator.judge.intervals import NOTHING, Estimate, around, bootstrap_ratio, ratio

COUNTERS: Final = "counters"
CALIBRATED: Final = "counters, calibrated"
TRUTH: Final = "truth"

EVERYTHING: Final = "all"
MIN_ROWS: Final = 10_000
"""Slices of fewer rows are left out."""

_N_DRAWS: Final = 500
_SMALLEST: Final = 1e-7

Floats = npt.NDArray[np.float64]
AnyFloats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrueRows:
    """Rows that were seen, with the truth.

    Attributes
    ----------
    actions
        Names of the columns.
    viewers
        Shape (n,), int64.
    truth
        Shape (n, n_actions): the probability of each action, given that the post is looked at.
    did
        Shape (n, n_actions), bool: what the log says was done.
    slices
        Name to rows, int64; without `EVERYTHING`.
    """

    actions: tuple[str, ...]
    viewers: Ints
    truth: AnyFloats
    did: npt.NDArray[np.bool_]
    slices: Mapping[str, Ints]

    def __len__(self) -> int:
        return len(self.viewers)


class HeadJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction of one action.

    Attributes
    ----------
    prediction
        Its name; `COUNTERS`, `CALIBRATED` and `TRUTH` among them.
    n_true, n_did
        How often the action was to be expected on these rows, and how often the log has it.
    cross_entropy
        Against the true probabilities, nats a row.
    normalised_entropy
        The same, as a share of that of the true base rate alone.
    closed
        Share of the gap from the counters to the truth that is closed: 0 as good as counters, 1 as good as the truth.
    closed_calibrated
        Share of what the calibrated counters leave; NaN without these.
    calibration
        Sum of predictions over sum of true probabilities.
    auc
        How often a row where the action happens is ahead of one where it does not, in expectation under the truth.
    """

    action: str
    prediction: str
    n: int
    n_true: float
    n_did: int
    cross_entropy: float
    normalised_entropy: float
    closed: Estimate
    closed_calibrated: Estimate
    calibration: Estimate
    auc: Estimate


class SliceJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction of one action on some of the rows; see `HeadJudgement`."""

    action: str
    prediction: str
    slice: str
    n: int
    n_true: float
    closed: float
    calibration: Estimate


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """All predictions of all actions, over everything and by slice."""

    n_rows: int
    n_viewers: int
    heads: tuple[HeadJudgement, ...]
    slices: tuple[SliceJudgement, ...]


def judge_predictions(
    rows: TrueRows, predictions: Mapping[str, AnyFloats], *, min_rows: int = MIN_ROWS, seed: int = 1
) -> Judgement:
    """Return what each prediction is worth.

    Parameters
    ----------
    rows
        What was seen, and the truth.
    predictions
        Name to probabilities, shape (n, n_actions) each; `COUNTERS` must be one of them. The truth is added.
    min_rows
        Slices of fewer rows are left out.
    seed
        Of the bootstrap by viewer.

    Raises
    ------
    KeyError
        If there are no counters to compare with.
    """
    everybody, viewer = np.unique(rows.viewers, return_inverse=True)
    found = {**predictions, TRUTH: rows.truth}
    parts = {name: part for name, part in rows.slices.items() if len(part) >= min_rows}
    heads: list[HeadJudgement] = []
    slices: list[SliceJudgement] = []
    for column, action in enumerate(rows.actions):
        truth = rows.truth[:, column].astype(np.float64)
        if not truth.sum() > 0:  # without any chance of it there is nothing to compare
            continue
        calibrated = predictions.get(CALIBRATED)
        head = _Head(
            action=action,
            truth=truth,
            n_did=int(rows.did[:, column].sum()),
            above=_above(truth, predictions[COUNTERS][:, column]),
            above_calibrated=None if calibrated is None else _above(truth, calibrated[:, column]),
            viewer=viewer,
            n_viewers=len(everybody),
            seed=seed,
        )
        for name, matrix in found.items():
            predicted = matrix[:, column].astype(np.float64)
            heads.append(head.judged(name, predicted))
            slices += [head.judged_in(name, predicted, title, part) for title, part in parts.items()]
    return Judgement(n_rows=len(rows), n_viewers=len(everybody), heads=tuple(heads), slices=tuple(slices))


@dataclass(frozen=True, slots=True)
class _Head:
    """One action: its truth, and what counters lie above it."""

    action: str
    truth: Floats
    n_did: int
    above: Floats
    above_calibrated: Floats | None
    viewer: Ints
    n_viewers: int
    seed: int

    def judged(self, prediction: str, predicted: Floats) -> HeadJudgement:
        """Return what a prediction is worth over everything."""
        truth, above = self.truth, _above(self.truth, predicted)
        entropy = float(cross_entropy(truth, predicted).mean())
        closed_calibrated = NOTHING
        if self.above_calibrated is not None:
            closed_calibrated = self._share(self.above_calibrated - above, self.above_calibrated)
        return HeadJudgement(
            action=self.action,
            prediction=prediction,
            n=len(truth),
            n_true=float(truth.sum()),
            n_did=self.n_did,
            cross_entropy=entropy,
            normalised_entropy=entropy / _entropy(float(truth.mean())),
            closed=self._share(self.above - above, self.above),
            closed_calibrated=closed_calibrated,
            calibration=ratio(self._sums(predicted), self._sums(truth)),
            auc=expected_auc(predicted, truth, self.viewer),
        )

    def judged_in(self, prediction: str, predicted: Floats, title: str, part: Ints) -> SliceJudgement:
        """Return what a prediction is worth on some rows."""
        truth = self.truth[part]
        gap, left = float(self.above[part].sum()), float(_above(truth, predicted[part]).sum())
        sums, true_sums = self._sums(predicted[part], part), self._sums(truth, part)
        is_there = np.bincount(self.viewer[part], minlength=self.n_viewers) > 0
        return SliceJudgement(
            action=self.action,
            prediction=prediction,
            slice=title,
            n=len(part),
            n_true=float(truth.sum()),
            closed=(gap - left) / gap if gap > 0 else math.nan,
            calibration=ratio(sums[is_there], true_sums[is_there]),
        )

    def _sums(self, column: Floats, part: Ints | None = None) -> Floats:
        """Return a column's sums by viewer, shape (n_viewers,)."""
        viewer = self.viewer if part is None else self.viewer[part]
        return np.bincount(viewer, weights=column, minlength=self.n_viewers).astype(np.float64)

    def _share(self, part: Floats, whole: Floats) -> Estimate:
        """Return sum over sum with a bootstrapped interval; of nothing there is no share."""
        if not float(whole.sum()) > 0:
            return NOTHING
        return bootstrap_ratio(self._sums(part), self._sums(whole), seed=self.seed, n_draws=_N_DRAWS)


def cross_entropy(truth: AnyFloats, predicted: AnyFloats) -> Floats:
    """Return each row's cross-entropy against the true probability in nats, shape (n,)."""
    p = truth.astype(np.float64)
    q = np.clip(predicted.astype(np.float64), _SMALLEST, 1.0 - _SMALLEST)
    rows: Floats = -p * np.log(q) - (1.0 - p) * np.log1p(-q)
    return rows


def _above(truth: Floats, predicted: AnyFloats) -> Floats:
    """Return what predictions lie above the floor, row by row: never less than nothing."""
    return cross_entropy(truth, predicted) - cross_entropy(truth, truth)


def expected_auc(scores: Floats, truth: Floats, viewer: Ints) -> Estimate:
    """Return the AUC to be expected of scores, with an interval by viewer.

    Every pair of different rows counts with the probability that the action happens on the one and not on the other;
    ties count half. Exact, by one sort. The interval is linearised: what a viewer's rows contribute, to first order.

    Parameters
    ----------
    scores, truth
        Shape (n,).
    viewer
        Shape (n,): numbers from 0.

    References
    ----------
    Obuchowski: Nonparametric analysis of clustered ROC curve data, Biometrics 1997.
    """
    yes, no = truth, 1.0 - truth
    n_yes, n_no, own = float(yes.sum()), float(no.sum()), float((yes * no).sum())
    pairs = n_yes * n_no - own
    if not pairs > 0:
        return NOTHING
    _, group = np.unique(scores, return_inverse=True)
    no_by_group, yes_by_group = np.bincount(group, weights=no), np.bincount(group, weights=yes)
    no_below = (np.cumsum(no_by_group) - 0.5 * no_by_group)[group]
    yes_above = n_yes - (np.cumsum(yes_by_group) - 0.5 * yes_by_group)[group]
    value = (float((yes * no_below).sum()) - 0.5 * own) / pairs
    influence = (yes * no_below + no * yes_above) / pairs - value * (yes / n_yes + no / n_no)
    by_viewer = np.bincount(viewer, weights=influence)
    by_viewer = by_viewer[np.bincount(viewer) > 0]
    n = len(by_viewer)
    error = math.sqrt(float(((by_viewer - by_viewer.mean()) ** 2).sum()) * n / (n - 1)) if n > 1 else math.nan
    return around(value, error, n - 1, n)


def _entropy(rate: float) -> float:
    return -rate * math.log(rate) - (1.0 - rate) * math.log1p(-rate) if 0 < rate < 1 else math.nan
