"""Why a post has its score: read off the columns that the rankers left, for any ranked candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.base.actions import Action
from millrace.features.columns import ACTION_PROBS, OFFSET_VALUE, SCORE, VALUE
from millrace.mixer.feed import Why, WhyAction, WhyMultiplier
from millrace.mixer.value_model.steps import steps_of
from millrace.mixer.value_model.weighted_sum import WeightedSum, counts_complete
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Ranker


class WhyReader:
    """Explains scores of the candidates of one pipeline.

    Parameters
    ----------
    rankers
        The pipeline's rankers: one `WeightedSum`, and the steps from its value to the score in their order.
    action_names
        Names of the heads, in order.
    """

    def __init__(self, rankers: Sequence[Ranker], action_names: Sequence[str]) -> None:
        (self._sum,) = (ranker for ranker in rankers if isinstance(ranker, WeightedSum))
        self._steps = steps_of(rankers)
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
        weights = self._sum.weights.read(query.params)
        applied = np.tile(weights, (batch.n, 1))
        applied[:, Action.COMPLETE] *= counts_complete(query, batch)
        probs = batch[ACTION_PROBS]
        parts = probs * applied
        heads = np.flatnonzero(weights)
        if max_actions is None or max_actions >= len(heads):
            told = np.tile(heads, (batch.n, 1))
        else:
            told = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :max_actions]
        places = told + np.arange(0, probs.size, probs.shape[1])[:, np.newaxis]
        told_parts = parts.take(places)
        others = parts.sum(axis=1) - told_parts.sum(axis=1) if told.shape[1] < len(heads) else np.zeros(batch.n)
        arrays = (told, probs.take(places), applied.take(places), told_parts, others)
        columns = (*(VALUE, OFFSET_VALUE, SCORE), *(step.column for step in self._steps))
        rows = zip(*(array.tolist() for array in (*arrays, *(batch[c] for c in columns))), strict=True)
        return [self._why(*row) for row in rows]

    def _why(
        self,
        heads: list[int],
        probs: list[float],
        weights: list[float],
        parts: list[float],
        others: float,
        value: float,
        offset_value: float,
        score: float,
        *amounts: float,
    ) -> Why:
        return Why(
            actions={
                self._names[head]: WhyAction(probability=prob, weight=weight, contribution=part)
                for head, prob, weight, part in zip(heads, probs, weights, parts, strict=True)
            },
            other_actions=others,
            value=value,
            offset_value=offset_value,
            multipliers=tuple(
                WhyMultiplier(name=step.name, factor=amount, kind=step.kind)
                for step, amount in zip(self._steps, amounts, strict=True)
            ),
            score=score,
        )
