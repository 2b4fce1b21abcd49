"""Multipliers: what the value is multiplied by, one stage and one factor column each, so that all can be shown."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import CREATED_MS, IS_IN_NETWORK, NETWORK_FACTOR, RECENCY_FACTOR, SCORE
from millrace.mixer.value_model.steps import StepKind
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import Column
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, ValueModel

_HOUR_MS: Final = 3_600_000.0

RECENCY_RATE: Final = Param(
    "recency.rate_per_h", 0.03, 0.0, 10.0, "a post of age a hours is multiplied by e^(-rate x a); 0 switches it off"
)

OUT_OF_NETWORK: Final = Param(
    "network.out_of_network_factor",
    0.75,
    0.0,
    1.0,
    "posts by accounts the viewer does not follow are multiplied by this",
)


class Multiplier(ValueModel):
    """Multiplies the score by a factor and keeps the factor.

    Attributes
    ----------
    factor_column
        Where the factor is kept for explanations.
    step_kind
        What explanations say the factor does to the score.
    """

    factor_column: Column[np.float32]
    step_kind: ClassVar[StepKind] = "multiply"

    @abstractmethod
    def factor(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return the factor of each candidate, shape (n,), float32, finite and at least 0."""

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the factor and the score so far."""
        factor = self.factor(query, batch)
        return {self.factor_column: factor, SCORE: batch[SCORE] * factor}


class RecencyMultiplier(Multiplier):
    """Prefers younger posts: multiplies by e^(-rate x age in hours)."""

    name = "recency"
    reads = (CREATED_MS, SCORE)
    writes = (RECENCY_FACTOR, SCORE)
    params = (RECENCY_RATE,)
    factor_column = RECENCY_FACTOR

    def factor(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return the factor; 1 for posts from the future."""
        age_h = np.maximum(query.now_ms - batch[CREATED_MS], 0) / _HOUR_MS
        return np.exp(-query.params.get_float(RECENCY_RATE) * age_h).astype(np.float32)


class OutOfNetworkMultiplier(Multiplier):
    """Prefers posts by accounts that the viewer follows: multiplies the others by a factor below 1."""

    name = "out_of_network"
    reads = (IS_IN_NETWORK, SCORE)
    writes = (NETWORK_FACTOR, SCORE)
    params = (OUT_OF_NETWORK,)
    factor_column = NETWORK_FACTOR

    def factor(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return 1 for posts in-network, the param for the others."""
        factor = np.float32(query.params.get_float(OUT_OF_NETWORK))
        return np.where(batch[IS_IN_NETWORK], np.float32(1.0), factor)
