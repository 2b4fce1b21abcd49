"""`FeaturesLogged` and `CandidatesLogged`: what models saw, handed to the log after the page has left.

What is logged are the arrays that the models read (`millrace.mixer.inputs_log` for rows that none has read), so
training and serving cannot differ. The bytes of an event are bounded; of a page the first rows stay, of candidates a
random share, which their propensities tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.base.params import Param
from millrace.events.envelope import AnyEvent, Event
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged, InputsLogged
from millrace.events.packed import PackedArrays, pack_arrays
from millrace.features.columns import (
    ACTION_PROBS,
    AUTHOR_ID,
    CONTENT_ID,
    COUNTED_PROBS,
    DEEP_PROBS,
    INPUT_DENSE,
    INPUT_LANGUAGE,
    POST_ID,
    SCORE,
)
from millrace.features.encoding.candidates import CandidateInputs, schema_hash
from millrace.features.encoding.logged import (
    CUT,
    RANKED,
    SERVED,
    Float32Array,
    LoggedRows,
    row_arrays,
    viewer_arrays,
)
from millrace.features.query_fields import CONTEXT, VIEWER, VIEWER_INPUTS
from millrace.mixer.inputs_log import (
    CANDIDATES_SHARE,
    FEATURES_SHARE,
    is_encoded,
    is_page_logged,
    is_request_logged,
)
from millrace.mixer.side_effects.served_log import ServedLogger
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import SideEffect

CUT_SHARE: Final = Param(
    "candidates_log.cut_share",
    0.1,
    low=0.0,
    high=1.0,
    doc="of a logged request, the share of those candidates that a pre-ranker cut",
)

VersionsOf = Callable[[Query], Mapping[str, str]]
"""Which models predict for a request: role to version."""

_READS: Final = (POST_ID, CONTENT_ID, AUTHOR_ID, ACTION_PROBS, INPUT_DENSE, INPUT_LANGUAGE, SCORE)


def no_versions(_query: Query) -> Mapping[str, str]:
    """Return that nothing is known of models."""
    return {}


class _LogInputs(SideEffect):
    """What both have."""

    reads = (*_READS, CONTEXT, VIEWER, VIEWER_INPUTS)

    def __init__(
        self,
        logger: ServedLogger | None,
        pipeline: str,
        actions: ActionSpace,
        *,
        max_bytes: int,
        versions_of: VersionsOf = no_versions,
    ) -> None:
        self._logger = logger
        self._pipeline = pipeline
        self._schema = schema_hash(actions)
        self._max_bytes = max_bytes
        self._versions_of = versions_of

    def _log(
        self, kind: type[InputsLogged], prefix: str, share: Param, result: PipelineResult, arrays: PackedArrays
    ) -> None:
        query = result.query
        payload = kind(
            request_id=query.request_id,
            viewer_id=query[VIEWER],
            pipeline=self._pipeline,
            schema=self._schema,
            state_offset=query.state_offset,
            models=dict(self._versions_of(query)),
            share=query.params.get_float(share),
            surface=query[CONTEXT].surface,
            arrays=pack_arrays(arrays),
        )
        event: AnyEvent = Event(
            event_id=f"{prefix}-{query.request_id}", event_time_ms=query.now_ms, source="mixer", payload=payload
        )
        if self._logger is not None:
            self._logger.log(event)


class LogFeatures(_LogInputs):
    """Writes one `FeaturesLogged` event a page that has posts.

    Parameters
    ----------
    logger
        Takes the event; None where nobody does.
    pipeline
        The pipeline's name.
    actions
        The known actions.
    max_bytes
        Of an event, before it is compressed.
    versions_of
        Which models predicted.
    """

    name = "log_features"
    params = (FEATURES_SHARE,)

    def is_enabled(self, query: Query) -> bool:
        """Only where somebody takes the event, and only for the wanted share of pages."""
        return self._logger is not None and is_page_logged(query)

    async def run(self, query: Query, result: PipelineResult) -> None:
        """Hand over the event."""
        viewer = result.query[VIEWER_INPUTS]
        if viewer is None or not result.slate.n:
            return
        arrays = viewer_arrays(viewer)
        rows = logged_rows(result.slate, np.full(result.slate.n, SERVED, dtype=np.uint8))
        n_max = n_within(rows, self._max_bytes - _n_bytes(arrays))
        if n_max < len(rows):
            rows = rows.take(np.arange(n_max))
        # Posts first: the join reads them alone, and need not unpack what stands behind them.
        self._log(FeaturesLogged, "features", FEATURES_SHARE, result, {**row_arrays(rows), **arrays})


class LogCandidates(_LogInputs):
    """Writes a `CandidatesLogged` event for a sampled share of requests: what else could have been on the page.

    All ranked candidates, and a random share of those that a pre-ranker has encoded and cut. Where they do not fit, as
    many as do are drawn from each. The choice hangs on nothing but the request's id and the candidates.

    Parameters
    ----------
    logger, pipeline, actions, max_bytes, versions_of
        As those of `LogFeatures`.
    """

    name = "log_candidates"
    params = (CANDIDATES_SHARE, CUT_SHARE)

    def is_enabled(self, query: Query) -> bool:
        """Only where somebody takes the event, and only for sampled requests."""
        return self._logger is not None and is_request_logged(query)

    async def run(self, query: Query, result: PipelineResult) -> None:
        """Hand over the event."""
        viewer, ranked = result.query[VIEWER_INPUTS], result.ranked
        if viewer is None or not ranked.n:
            return
        arrays, rng = viewer_arrays(viewer), query.rng(self.name)
        is_served = np.isin(result.ranked_rows, result.slate_rows)
        rows = logged_rows(ranked, np.where(is_served, SERVED, RANKED).astype(np.uint8))
        rows = rows.take(np.flatnonzero(is_encoded(ranked)))
        if not len(rows):  # out of time before they were encoded
            return
        n_max = n_within(rows, self._max_bytes - _n_bytes(arrays))
        rows = _drawn(rows, n_max, rng)
        cut = self._cut(query, result, rng)
        if cut is not None and n_max > len(rows):
            rows = _joined(rows, _drawn(cut, n_max - len(rows), rng))
        self._log(CandidatesLogged, "candidates", CANDIDATES_SHARE, result, {**arrays, **row_arrays(rows)})

    def _cut(self, query: Query, result: PipelineResult, rng: np.random.Generator) -> LoggedRows | None:
        """Return a random share of what a pre-ranker has cut; None where none has encoded its rows."""
        pool, share = result.pre_ranked, query.params.get_float(CUT_SHARE)
        if INPUT_DENSE not in pool:
            return None
        is_cut = ~np.isin(result.pre_ranked_rows, result.ranked_rows) & is_encoded(pool)
        rows = np.flatnonzero(is_cut & (rng.random(pool.n) < share))
        return logged_rows(pool.take(rows), np.full(len(rows), CUT, dtype=np.uint8), share) if len(rows) else None


def logged_rows(batch: CandidateBatch, stages: npt.NDArray[np.uint8], propensity: float = 1.0) -> LoggedRows:
    """Return what is logged of candidates that are at one point of the pipeline.

    Parameters
    ----------
    batch
        With inputs.
    stages
        Shape (n,): how far each came.
    propensity
        Of all of them.
    """
    n = batch.n
    probs = batch[ACTION_PROBS] if ACTION_PROBS in batch else np.zeros((n, 0), dtype=np.float32)
    has_counted = COUNTED_PROBS in batch and bool(batch[COUNTED_PROBS].any())
    return LoggedRows(
        post_ids=batch[POST_ID],
        inputs=CandidateInputs(batch[CONTENT_ID], batch[AUTHOR_ID], batch[INPUT_LANGUAGE], batch[INPUT_DENSE]),
        predictions=probs,
        baseline=batch[COUNTED_PROBS] if has_counted else None,
        scores=batch[SCORE] if SCORE in batch else np.full(n, np.nan, dtype=np.float32),
        propensities=np.full(n, propensity, dtype=np.float32),
        stages=stages,
        deep=batch[DEEP_PROBS] if DEEP_PROBS in batch and bool(batch[DEEP_PROBS].any()) else None,
    )


def n_within(rows: LoggedRows, n_bytes: int) -> int:
    """Return how many rows of this kind fit into so many bytes, at least one."""
    n_each = -(-_n_bytes(row_arrays(rows)) // max(len(rows), 1))
    return max(n_bytes // max(n_each, 1), 1)


def _drawn(rows: LoggedRows, n_max: int, rng: np.random.Generator) -> LoggedRows:
    """Return at most so many of the rows, each with the same probability, which they then tell."""
    n = len(rows)
    if n <= n_max:
        return rows
    drawn = rows.take(np.sort(rng.permutation(n)[:n_max]))
    return replace(drawn, propensities=drawn.propensities * np.float32(n_max / n))


def _joined(ranked: LoggedRows, cut: LoggedRows) -> LoggedRows:
    """Return both, the second without predictions."""

    def with_nothing(probs: Float32Array) -> Float32Array:
        nothing = np.full((len(cut), probs.shape[1]), np.nan, dtype=np.float32)
        return np.concatenate([probs, nothing])

    return LoggedRows(
        post_ids=np.concatenate([ranked.post_ids, cut.post_ids]),
        inputs=ranked.inputs.joined(cut.inputs),
        predictions=with_nothing(ranked.predictions),
        baseline=None if ranked.baseline is None else with_nothing(ranked.baseline),
        scores=np.concatenate([ranked.scores, cut.scores]),
        propensities=np.concatenate([ranked.propensities, cut.propensities]),
        stages=np.concatenate([ranked.stages, cut.stages]),
        deep=None if ranked.deep is None else with_nothing(ranked.deep),
    )


def _n_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    return sum(array.nbytes for array in arrays.values())
