"""Multipliers that look at one candidate at a time: age, and whether it comes from a stranger."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.params import Param
from millrace.features.columns import CREATED_MS, IS_IN_NETWORK, KIND, NETWORK_FACTOR, RECENCY_FACTOR, SCORE
from millrace.mixer.home_models import MODELS, is_learned
from millrace.mixer.kinds import REPLY, REPOST
from millrace.mixer.value_model.steps import Multiplier
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query

_HOUR_MS: Final = 3_600_000.0

RECENCY_RATE: Final = Param(
    "recency.rate_per_h", 0.05, 0.0, 10.0, "a post of age a hours is multiplied by e^(-rate x a); 0 switches it off"
)

LEARNED_RECENCY: Final = Param(
    "recency.learned_frac",
    0.2,
    0.0,
    1.0,
    "share of that rate where a learned ranker predicts: it reads ages itself, and knows what they do to each action",
)

OUT_OF_NETWORK: Final = Param(
    "network.out_of_network_factor",
    0.75,
    0.0,
    1.0,
    "posts by accounts the viewer does not follow are multiplied by this",
)

RESCORES_REPLIES: Final = Param(
    "network.rescores_replies",
    default=True,
    doc="multiply replies and reposts by accounts the viewer follows by that factor too, as X does",
)


class RecencyMultiplier(Multiplier):
    """Prefers younger posts: multiplies by e^(-rate x age in hours)."""

    name = "recency"
    reads = (CREATED_MS, SCORE, MODELS)
    writes = (RECENCY_FACTOR, SCORE)
    params = (RECENCY_RATE, LEARNED_RECENCY)
    amount_column = RECENCY_FACTOR

    def amount(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return the factor; 1 for posts from the future."""
        age_h = np.maximum(query.now_ms - batch[CREATED_MS], 0) / _HOUR_MS
        rate = query.params.get_float(RECENCY_RATE)
        if is_learned(query):
            rate *= query.params.get_float(LEARNED_RECENCY)
        return np.exp(-rate * age_h).astype(np.float32)


class OutOfNetworkMultiplier(Multiplier):
    """Prefers what followed accounts publish themselves: multiplies everything else by a factor below 1."""

    name = "out_of_network"
    reads = (IS_IN_NETWORK, KIND, SCORE)
    writes = (NETWORK_FACTOR, SCORE)
    params = (OUT_OF_NETWORK, RESCORES_REPLIES)
    amount_column = NETWORK_FACTOR

    def amount(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return 1 for what followed accounts wrote themselves, else the param; their replies and reposts: a switch."""
        is_full = batch[IS_IN_NETWORK]
        if query.params.get_bool(RESCORES_REPLIES):
            kind = batch[KIND]
            is_full = is_full & (kind != REPLY) & (kind != REPOST)
        return np.where(is_full, np.float32(1.0), np.float32(query.params.get_float(OUT_OF_NETWORK)))
