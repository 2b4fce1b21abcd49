"""Why a post has its score: read off the columns that the rankers left, for any ranked candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.features.columns import ACTION_PROBS, OFFSET_VALUE, SCORE, VALUE
from millrace.mixer.feed import Why, WhyAction, WhyStep
from millrace.mixer.near_line_shifts import near_line_shifts
from millrace.mixer.value_model.steps import value_steps
from millrace.mixer.value_model.weighted_sum import WeightedSum
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Ranker


class WhyReader:
    """Explains scores of the candidates of one pipeline.

    Parameters
    ----------
    rankers
        The pipeline's rankers: one `WeightedSum`, and the value steps in their order.
    action_names
        Names of the heads, in order.
    """

    def __init__(self, rankers: Sequence[Ranker], action_names: Sequence[str]) -> None:
        (self._sum,) = (ranker for ranker in rankers if isinstance(ranker, WeightedSum))
        self._steps = value_steps(rankers)
        self._names = tuple(action_names)

    def explain(self, query: Query, batch: CandidateBatch, max_actions: int | None = None) -> list[Why]:
        """Return the explanation of each row of a ranked batch.

        Parameters
        ----------
        query, batch
            The request, and the rows to explain.
        max_actions
            Tell only so many heads' parts, those that contribute most; by default all heads that weigh something.
        """
        applied = self._sum.applied_weights(query, batch)
        heads = np.flatnonzero((self._sum.weights.read(query.params) != 0) | applied.any(axis=0))
        probs = batch[ACTION_PROBS]
        parts = probs * applied
        if max_actions is None or max_actions >= len(heads):
            told = np.tile(heads, (batch.n, 1))
        else:
            told = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :max_actions]
        places = told + np.arange(0, probs.size, probs.shape[1])[:, np.newaxis]
        told_parts = parts.take(places)
        others = parts.sum(axis=1) - told_parts.sum(axis=1) if told.shape[1] < len(heads) else np.zeros(batch.n)
        calibration, fast = (shifts.take(places) for shifts in near_line_shifts(batch))
        arrays = (told, probs.take(places), applied.take(places), told_parts, calibration, fast, others)
        columns = (batch[VALUE], batch[OFFSET_VALUE], batch[SCORE])
        rows = zip(*(array.tolist() for array in (*arrays, *columns)), self._steps_of(batch), strict=True)
        return [self._why(*row) for row in rows]

    def _why(
        self,
        heads: list[int],
        probs: list[float],
        weights: list[float],
        parts: list[float],
        calibration: list[float],
        fast: list[float],
        others: float,
        value: float,
        offset_value: float,
        score: float,
        steps: tuple[WhyStep, ...],
    ) -> Why:
        return Why(
            actions={
                self._names[head]: WhyAction(
                    probability=prob, weight=weight, contribution=part, calibration_shift=calibrated, fast_shift=shift
                )
                for head, prob, weight, part, calibrated, shift in zip(
                    heads, probs, weights, parts, calibration, fast, strict=True
                )
            },
            other_actions=others,
            value=value,
            offset_value=offset_value,
            steps=steps,
            score=score,
        )

    def _steps_of(self, batch: CandidateBatch) -> list[tuple[WhyStep, ...]]:
        """Return the steps of each row; the scores after them are computed as the stages did, bit for bit."""
        score = batch[OFFSET_VALUE]
        told = []
        for step in self._steps:
            amounts = batch[step.amount_column]
            score = step.apply(score, amounts)
            told.append(
                [
                    WhyStep(name=step.name, kind=step.operation, amount=amount, score_after=after)
                    for amount, after in zip(amounts.tolist(), score.tolist(), strict=True)
                ]
            )
        return list(zip(*told, strict=True)) if told else [()] * batch.n
