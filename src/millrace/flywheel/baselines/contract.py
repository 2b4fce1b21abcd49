"""The two protocols of baselines, and the way from the one to the other: a score that is calibrated a head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np

from millrace.base.actions import CONTINUOUS
from millrace.base.ids import Int64Array
from millrace.flywheel.baselines.interactions import liked_histories
from millrace.flywheel.metrics import Float64Array
from millrace.flywheel.platt import Platt, fit_platt, logit
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.pipeline.ragged import Ragged

Predict = Callable[[SampleSet, Int64Array], Float32Array]
"""P(action) for the rows of some slates, in the order of `SampleSet.rows_of`, shape (n, n_actions).

Continuous heads are amounts. (`millrace.flywheel.train_ranker.predicted` is one, given its model.)
"""

Fit = Callable[[SampleSet, Int64Array, Int64Array], Predict]
"""From samples, the slates to learn from, and later ones to calibrate on."""

RowScores = Callable[[SampleSet, Int64Array], Float64Array]
"""One score for each row of some slates, shape (n,); higher is better, of any scale."""

_SLATES_AT_ONCE: Final = 64


class Scorer(Protocol):
    """Scores posts for viewers; what retrieves by taking the best."""

    def scores(self, histories: Ragged, post_ids: Int64Array) -> Float32Array:
        """Return how well each post suits each viewer.

        Parameters
        ----------
        histories
            Posts that each of the n viewers liked, oldest first, int64.
        post_ids
            Shape (m,), int64; posts that the scorer has never met get 0.

        Returns
        -------
        Float32Array
            Shape (n, m).
        """
        ...


def scored_rows(scorer: Scorer) -> RowScores:
    """Return a scorer as scores of rows: each slate's posts for its viewer, as their history was then."""

    def score(samples: SampleSet, slates: Int64Array) -> Float64Array:
        parts = [np.empty(0)]
        for first in range(0, len(slates), _SLATES_AT_ONCE):
            some = slates[first : first + _SLATES_AT_ONCE]
            rows = samples.rows_of(some)
            posts, column = np.unique(samples.post_ids[rows], return_inverse=True)
            slate = np.repeat(np.arange(len(some)), np.diff(samples.starts)[some])
            parts.append(scorer.scores(liked_histories(samples, some), posts)[slate, column].astype(np.float64))
        return np.concatenate(parts)

    return score


def by_score(score: RowScores, samples: SampleSet, learned: Int64Array, validated: Int64Array) -> Predict:
    """Return predictions from one score a row: for each head a slope and a shift, fitted on the validated slates.

    Where these say little, a head stays near its base rate among the learned. Continuous heads are their mean.
    """
    rows, seen = samples.rows_of(validated), samples.rows_of(learned)
    raw = score(samples, validated)
    mean, spread = (float(raw.mean()), float(raw.std()) or 1.0) if len(raw) else (0.0, 1.0)
    weights = np.asarray(samples.weights[rows])
    base = np.average(samples.labels[seen], axis=0, weights=samples.weights[seen])
    heads: list[Platt | float] = []
    for head in range(len(samples.meta.actions)):
        if head in CONTINUOUS:
            heads.append(float(base[head]))
            continue
        start = (0.0, float(logit(base[head : head + 1])[0]))
        heads.append(fit_platt((raw - mean) / spread, np.asarray(samples.labels[rows, head]), weights, start=start))

    def predict(samples: SampleSet, slates: Int64Array) -> Float32Array:
        x = (score(samples, slates) - mean) / spread
        columns = [head(x) if isinstance(head, Platt) else np.full(len(x), head) for head in heads]
        return np.stack(columns, axis=1).astype(np.float32)

    return predict
