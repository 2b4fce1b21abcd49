"""Why a post has its score: read off the columns that the rankers left, for any ranked candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.base.actions import Action
from millrace.features.columns import ACTION_PROBS, OFFSET_VALUE, SCORE, VALUE
from millrace.mixer.feed import Why, WhyAction, WhyMultiplier
from millrace.mixer.value_model.multipliers import Multiplier
from millrace.mixer.value_model.weighted_sum import WeightedSum, counts_complete
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Ranker


class WhyReader:
    """Explains scores of the candidates of one pipeline.

    Parameters
    ----------
    rankers
        The pipeline's rankers: one `WeightedSum`, and the multipliers in their order.
    action_names
        Names of the heads, in order.
    """

    def __init__(self, rankers: Sequence[Ranker], action_names: Sequence[str]) -> None:
        (self._sum,) = (ranker for ranker in rankers if isinstance(ranker, WeightedSum))
        self._multipliers = tuple(ranker for ranker in rankers if isinstance(ranker, Multiplier))
        self._names = tuple(action_names)

    def explain(self, query: Query, batch: CandidateBatch) -> list[Why]:
        """Return the explanation of each row of a ranked batch; heads without weight are left out."""
        weights = self._sum.weights.read(query.params)
        heads = np.flatnonzero(weights).tolist()
        names = [self._names[head] for head in heads]
        weight_by_row = np.tile(weights, (batch.n, 1))
        weight_by_row[:, Action.COMPLETE] *= counts_complete(query, batch)
        probs = batch[ACTION_PROBS][:, heads]
        applied = weight_by_row[:, heads]
        factors = [batch[multiplier.factor_column].tolist() for multiplier in self._multipliers]
        columns = (batch[VALUE], batch[OFFSET_VALUE], batch[SCORE])
        rows = zip(
            probs.tolist(),
            applied.tolist(),
            (probs * applied).tolist(),
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
                multipliers=tuple(
                    WhyMultiplier(name=multiplier.name, factor=factor[row])
                    for multiplier, factor in zip(self._multipliers, factors, strict=True)
                ),
                score=score,
            )
            for row, (head_probs, head_weights, contributions, value, offset_value, score) in enumerate(rows)
        ]
