"""Why a post has its score: read off the columns that the rankers left, for any ranked candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.features.columns import ACTION_PROBS, OFFSET_VALUE, SCORE, VALUE
from millrace.mixer.feed import Why, WhyAction, WhyStep
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

    def explain(self, query: Query, batch: CandidateBatch) -> list[Why]:
        """Return the explanation of each row of a ranked batch; heads without weight are left out."""
        applied = self._sum.applied_weights(query, batch)
        heads = np.flatnonzero((self._sum.weights.read(query.params) != 0) | applied.any(axis=0)).tolist()
        names = [self._names[head] for head in heads]
        probs, applied = batch[ACTION_PROBS][:, heads], applied[:, heads]
        columns = (batch[VALUE], batch[OFFSET_VALUE], batch[SCORE])
        rows = zip(
            probs.tolist(),
            applied.tolist(),
            (probs * applied).tolist(),
            self._steps_of(batch),
            *(column.tolist() for column in columns),
            strict=True,
        )
        return [
            Why(
                actions={
                    name: WhyAction(probability=p, weight=w, contribution=c)
                    for name, p, w, c in zip(names, head_probs, head_weights, contributions, strict=True)
                },
                value=value,
                offset_value=offset_value,
                steps=steps,
                score=score,
            )
            for head_probs, head_weights, contributions, steps, value, offset_value, score in rows
        ]

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
