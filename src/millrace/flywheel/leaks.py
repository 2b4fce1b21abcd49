"""Controls: whether metrics, labels and scores keep to their places in time.

*Shuffled labels* must give an AUC of one half: if they do not, the metric or the join is wrong.

A *leak* is a score that knows what had not happened when it was needed: a counter that holds the very like that it is
to predict, a join by the wrong time. Three marks give it away (`find_leaks`): it is better than a world allows
(``implausible``), better than the true probabilities (``above truth``, where somebody knows them: a simulator), or
better as it was logged than computed anew from the log before the moment (``hindsight``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from msgspec import Struct

from millrace.flywheel.bootstrap import ViewerBootstrap, interval
from millrace.flywheel.metrics import BoolArray, Float64Array, FloatArray, IntArray, auc, mean_ranks

MAX_AUC: Final = 0.98
"""What people do is not foreseen better than this."""

MIN_GAIN: Final = 0.02
"""By how much a logged score must be better than its replay: rounding and a few records of lag give less."""

LEVEL: Final = 0.99
"""Intervals of alarms: one honest score in two hundred trips a rule."""

CONTROL_TOLERANCE: Final = 0.005
CONTROL_POSITIVES: Final = 20_000
N_SHUFFLES: Final = 20

Rule = Literal["implausible", "above truth", "hindsight"]


class Leak(Struct, frozen=True, kw_only=True):
    """A score that knows too much.

    Attributes
    ----------
    score
        Its name.
    rule
        Which mark gave it away.
    auc, low, high
        Its AUC and interval.
    bound
        What the rule compares it with: the greatest plausible AUC, the truth's, the replay's.
    """

    score: str
    rule: Rule
    auc: float
    low: float
    high: float
    bound: float

    def __str__(self) -> str:
        what = {
            "implausible": f"no honest score reaches {self.bound:.3f}",
            "above truth": f"the true probabilities themselves reach {self.bound:.3f}",
            "hindsight": f"computed anew from the log before the moment it reaches {self.bound:.3f}",
        }[self.rule]
        return f"score {self.score}: AUC {self.auc:.3f} [{self.low:.3f}, {self.high:.3f}], {self.rule}: {what}"


def find_leaks(
    scores: Mapping[str, FloatArray],
    is_positive: BoolArray,
    viewers: IntArray,
    *,
    ceiling: FloatArray | None = None,
    replayed: Mapping[str, FloatArray] | None = None,
    max_auc: float = MAX_AUC,
    min_gain: float = MIN_GAIN,
    n_resamples: int = 200,
    seed: int = 1,
) -> list[Leak]:
    """Return the scores that know what had not happened yet, each with the first rule that it trips.

    Parameters
    ----------
    scores
        Name to scores, shape (n,) each, finite.
    is_positive, viewers
        Shape (n,): the labels, and whose each row is (intervals are by viewer).
    ceiling
        Shape (n,): the true probabilities. No honest score orders better, beyond luck: differences are taken resample
        by resample, so luck that both share is none.
    replayed
        The same scores computed from what the log held before each row's moment.
    max_auc
        An interval wholly above it is implausible.
    min_gain
        How much better than its replay a score may be.
    n_resamples, seed
        Of the bootstrap.
    """
    if not 0 < int(is_positive.sum()) < len(is_positive):
        return []
    bootstrap, rows = ViewerBootstrap(viewers, n_resamples, seed), np.arange(len(is_positive))

    def aucs(values: FloatArray) -> tuple[float, Float64Array]:
        return auc(is_positive, values), bootstrap.ranking(is_positive, values, rows)[:, 0]

    truth = None if ceiling is None else aucs(ceiling)
    found = []
    for name, values in scores.items():
        value, resampled = aucs(values)
        mine = interval(value, resampled, LEVEL)
        again = aucs(replayed[name]) if replayed is not None and name in replayed else None
        rule: Rule
        if truth is not None and interval(value - truth[0], resampled - truth[1], LEVEL).low > 0:
            rule, bound = "above truth", truth[0]
        elif again is not None and interval(value - again[0], resampled - again[1], LEVEL).low > min_gain:
            rule, bound = "hindsight", again[0]
        elif mine.low > max_auc:
            rule, bound = "implausible", max_auc
        else:
            continue
        found.append(Leak(score=name, rule=rule, auc=value, low=mine.low, high=mine.high, bound=bound))
    return found


class ShuffleControl(Struct, frozen=True, kw_only=True):
    """What shuffled labels gave.

    Attributes
    ----------
    action
        Whose labels.
    auc
        The mean over `N_SHUFFLES` shuffles.
    tolerance
        How far from one half it may lie: 0.005 from 20,000 positives on, four standard errors below.
    n_positive
        How many positives were shuffled.
    """

    action: str
    auc: float
    tolerance: float
    n_positive: int

    @property
    def holds(self) -> bool:
        """Whether it is as it must be."""
        return abs(self.auc - 0.5) <= self.tolerance


def shuffle_control(action: str, is_positive: BoolArray, scores: FloatArray, seed: int = 1) -> ShuffleControl:
    """Return the AUC of shuffled labels, with how far from one half it may lie."""
    n_positive, n = int(is_positive.sum()), len(is_positive)
    n_negative = n - n_positive
    ranks = mean_ranks(scores)
    rng = np.random.default_rng(seed)
    sums = np.array([ranks[rng.permutation(is_positive)].sum() for _ in range(N_SHUFFLES)])
    aucs = (sums - n_positive * (n_positive + 1) / 2) / max(n_positive * n_negative, 1)
    error = float(np.sqrt((n + 1) / (12 * max(n_positive * n_negative, 1)) / N_SHUFFLES))
    tolerance = CONTROL_TOLERANCE if n_positive >= CONTROL_POSITIVES else 4 * error
    return ShuffleControl(action=action, auc=float(aucs.mean()), tolerance=tolerance, n_positive=n_positive)


def shuffled_rows(n: int, seed: int) -> IntArray:
    """Return a seeded order of rows: labels taken in it belong to nobody."""
    return np.random.default_rng(seed).permutation(n)
