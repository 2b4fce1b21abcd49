"""The pre-ranker of the home feed: of some thousands of candidates it leaves the ranker those that look best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from millrace.base.order import top_k
from millrace.base.params import Param
from millrace.content.text_index import TextIndex
from millrace.features.columns import ACTION_PROBS, INPUT_DENSE, INPUT_LANGUAGE, IS_IN_NETWORK, PRERANK_SCORE, SCORE
from millrace.features.encoding.candidates import READS, CandidateInputs
from millrace.features.encoding.encoders import Encoders
from millrace.features.encoding.viewers import ViewerInputs
from millrace.features.query_fields import VIEWER_INPUTS
from millrace.inference.post_vectors import PostVectors
from millrace.inference.tables import Float32Array
from millrace.mixer.home_models import IS_ON
from millrace.mixer.rankers.counters_ranker import CountersRanker
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import PROVENANCE, AnyColumn, Column, IntArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import ColumnValues, PreRanker, Ranker

MAX_CANDIDATES: Final = Param(
    "pre_rank.max_candidates", 500, 1, 100_000, "most candidates that the pre-ranker leaves to the ranker"
)
BY_COUNTERS: Final = Param(
    "pre_rank.by_counters",
    default=False,
    doc="where no learned pre-ranker serves, counters decide; else nothing is cut",
)
MIN_IN_NETWORK: Final = Param(
    "pre_rank.min_in_network_frac",
    0.2,
    0.0,
    0.5,
    "share of the places kept for posts by accounts the viewer follows, if there are as many",
)
MIN_PER_SOURCE: Final = Param(
    "pre_rank.min_per_source",
    10,
    0,
    1_000,
    "places kept for the best of each source; all of them together take at most half",
)


class PrePredictor(Protocol):
    """What predicts: `millrace.inference.pre_ranker_model.PreRankerModel`, or whatever stands in its place."""

    def vectors_over(self, texts: TextIndex) -> PostVectors:
        """Return what it makes of an index's posts; kept here as long as the model serves."""

    def predict(self, viewer: ViewerInputs, candidates: CandidateInputs, vectors: PostVectors) -> Float32Array:
        """Return P(action), seconds for the continuous one, shape (n, n_actions)."""


PrePredictorOf = Callable[[Query], PrePredictor | None]
"""Gives the model that serves a request; None where none does."""


def no_pre_ranker(_query: Query) -> None:
    """Serve no request with a model."""


class ValuePreRanker(PreRanker):
    """Keeps the candidates of the highest value by the predictions of a light model distilled from the ranker.

    The value is that of the value model's own steps, so that weights and multipliers count here as they do there; only
    steps that look at one candidate at a time can. Some places are kept: for posts by followed accounts, and for the
    best of each source, so that what a source is for (new authors, editors' picks) is not settled here.

    Where no model serves, nothing is cut, or counters decide (``pre_rank.by_counters``).

    Parameters
    ----------
    model_of
        The model of a request.
    encoders
        Over the stores of this process.
    texts
        Where the posts' texts are.
    counters
        What predicts where no model serves.
    steps
        Of the value model, in order: they read predictions and write `SCORE`.
    """

    name = "pre_ranker"
    writes = (PRERANK_SCORE, INPUT_DENSE, INPUT_LANGUAGE)
    score = PRERANK_SCORE
    max_kept = MAX_CANDIDATES

    def __init__(
        self,
        model_of: PrePredictorOf,
        encoders: Encoders,
        texts: TextIndex,
        counters: CountersRanker,
        steps: Sequence[Ranker],
    ) -> None:
        self._model_of = model_of
        self._encoders = encoders
        self._texts = texts
        self._counters = counters
        self._steps = tuple(steps)
        self._vectors: WeakKeyDictionary[PrePredictor, PostVectors] = WeakKeyDictionary()
        own = (IS_ON, BY_COUNTERS, MIN_IN_NETWORK, MIN_PER_SOURCE)
        self.params = tuple(dict.fromkeys((*own, *counters.params, *(p for step in steps for p in step.params))))
        written: set[AnyColumn] = {ACTION_PROBS}
        own_reads = (*READS, IS_IN_NETWORK, PROVENANCE, VIEWER_INPUTS, *counters.reads)
        reads: dict[AnyColumn, None] = dict.fromkeys(own_reads)  # type: ignore[arg-type]
        for step in self._steps:
            reads.update((column, None) for column in step.reads if column not in written)  # type: ignore[misc]
            written.update(step.writes)  # type: ignore[arg-type]
        self.reads = tuple(reads)

    def is_enabled(self, query: Query) -> bool:
        """Where a model serves, or counters may decide."""
        return self._model(query) is not None or query.params.get_bool(BY_COUNTERS)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the scores."""
        model = self._model(query)
        viewer = query[VIEWER_INPUTS] or self._encoders.viewers.encode(query.viewer_id)
        candidates = self._encoders.candidates.encode(batch, query.now_ms, viewer.history.newest_ms)
        if model is None:
            valued = batch.with_columns(self._counters.rank(query, batch))
        else:
            valued = batch.with_columns({ACTION_PROBS: model.predict(viewer, candidates, self._vectors_of(model))})
        for step in self._steps:
            if step.is_enabled(query):
                valued = valued.with_columns(step.rank(query, valued))
        return {  # the ranker reads the same inputs
            PRERANK_SCORE: valued[SCORE],
            INPUT_DENSE: candidates.dense,
            INPUT_LANGUAGE: candidates.languages,
        }

    def choose(self, query: Query, batch: CandidateBatch, n_kept: int, key: Column[np.int64]) -> IntArray:
        """Return the rows that stay: those that have a place kept for them, then the best of the others."""
        order = top_k(batch[PRERANK_SCORE], batch[key], batch.n)
        stays = np.zeros(batch.n, dtype=np.bool_)
        n_in_network = int(query.params.get_float(MIN_IN_NETWORK) * n_kept)
        stays[order[batch[IS_IN_NETWORK][order]][:n_in_network]] = True
        sources = batch[PROVENANCE][order]
        bits = [bit for bit in range(32) if int(np.bitwise_or.reduce(sources)) >> bit & 1]
        each = min(query.params.get_int(MIN_PER_SOURCE), n_kept // (2 * max(len(bits), 1)))
        for bit in bits:
            stays[order[sources >> np.uint32(bit) & np.uint32(1) != 0][:each]] = True
        others = order[~stays[order]]
        stays[others[: n_kept - int(np.count_nonzero(stays))]] = True
        return np.flatnonzero(stays)

    def _model(self, query: Query) -> PrePredictor | None:
        return self._model_of(query) if query.params.get_bool(IS_ON) else None

    def _vectors_of(self, model: PrePredictor) -> PostVectors:
        vectors = self._vectors.get(model)
        if vectors is None:
            vectors = self._vectors[model] = model.vectors_over(self._texts)
        return vectors
