"""Value: the weighted sum of predictions, brought above zero without changing the order.

The offset rule of the X release, its constants recomputed for our heads. With S the sum, N the sum of the negative
weights' sizes and T = N + the sum of the positive weights (continuous heads left out of both)::

    S >= 0:  S + 0.001
    S <  0:  0.001 x (S + N) / T

so posts with a negative net sit in a band below 0.001: last, never removed, and a multiplier below 1 cannot lift them.
What weighs only for some posts (a reply to a mutual follow) is left out of N and T, as X does: both are constants.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action, ActionSpace
from millrace.base.params import Param
from millrace.features.columns import ACTION_PROBS, DURATION_MS, IS_MUTUAL, KIND, OFFSET_VALUE, SCORE, VALUE
from millrace.mixer.kinds import ORIGINAL
from millrace.mixer.value_model.weights import Float32Array, Weights
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, ValueModel

BAND: Final = 0.001

MIN_COMPLETE_S: Final = Param(
    "value.min_complete_s", 10.0, 0.0, 3_600.0, "shorter videos get no value for being watched to the end, seconds"
)

MUTUAL_REPLY_BOOST: Final = Param(
    "value.mutual_reply_boost",
    15.0,
    0.0,
    10_000.0,
    "added to the weight of P(reply) for originals by an author whom the viewer follows and who follows back",
)


class WeightException(NamedTuple):
    """A head's weight for some candidates.

    Attributes
    ----------
    head
        Which.
    weight
        What it weighs there.
    holds
        For which candidates, shape (n,), bool.
    """

    head: Action
    weight: np.float32
    holds: npt.NDArray[np.bool_]


class WeightedSum(ValueModel):
    """Sums weight x prediction over all heads and applies the offset rule.

    Parameters
    ----------
    actions
        The known actions.
    """

    name = "weighted_sum"
    reads = (ACTION_PROBS, DURATION_MS, KIND, IS_MUTUAL)
    writes = (VALUE, OFFSET_VALUE, SCORE)

    def __init__(self, actions: ActionSpace) -> None:
        self.weights = Weights(actions)
        self.params = (*self.weights.params, MIN_COMPLETE_S, MUTUAL_REPLY_BOOST)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return value, offset value, and the score so far."""
        weights = self.weights.read(query.params)
        probs = batch[ACTION_PROBS]
        value = probs @ weights
        for head, weight, holds in self.exceptions(query, batch):
            value += probs[:, head] * ((weight - weights[head]) * holds)
        offset = offset_value(value, *self.weights.sums(weights))
        return {VALUE: value, OFFSET_VALUE: offset, SCORE: offset}

    def exceptions(self, query: Query, batch: CandidateBatch) -> list[WeightException]:
        """Return where a head's weight is another than for all others: `rank` sums with these."""
        weights = self.weights.read(query.params)
        found = []
        boost = np.float32(query.params.get_float(MUTUAL_REPLY_BOOST))
        if boost != 0:
            weight = np.float32(weights[Action.REPLY] + boost)
            found.append(WeightException(Action.REPLY, weight, is_mutual_original(batch)))
        if weights[Action.COMPLETE] != 0:
            found.append(WeightException(Action.COMPLETE, np.float32(0.0), ~counts_complete(query, batch)))
        return found

    def applied_weights(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return the weight of each head for each candidate, shape (n, n_actions), float32: what `rank` sums with."""
        applied = np.tile(self.weights.read(query.params), (batch.n, 1))
        for head, weight, holds in self.exceptions(query, batch):
            applied[holds, head] = weight
        return applied


def counts_complete(query: Query, batch: CandidateBatch) -> npt.NDArray[np.bool_]:
    """Return which posts are long enough for P(complete) to count, shape (n,), bool."""
    return batch[DURATION_MS] > query.params.get_float(MIN_COMPLETE_S) * 1000


def is_mutual_original(batch: CandidateBatch) -> npt.NDArray[np.bool_]:
    """Return which posts are originals by somebody who follows the viewer and is followed, shape (n,), bool."""
    is_original: npt.NDArray[np.bool_] = batch[KIND] == ORIGINAL
    return is_original & batch[IS_MUTUAL]


def offset_value(value: Float32Array, negative: float, positive: float) -> Float32Array:
    """Return the sums brought above zero, shape (n,), float32; order is kept.

    Parameters
    ----------
    value
        Shape (n,): weighted sums.
    negative, positive
        The summed sizes of the negative and of the positive weights (`signed_sums`).
    """
    offset = value + np.float32(BAND)
    below = np.flatnonzero(value < 0)
    if len(below):
        offset[below] = np.maximum(BAND * (value[below] + negative) / (negative + positive), 0.0)
    return offset
