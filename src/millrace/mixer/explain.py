"""`Explainer`: traces in words and numbers, when somebody asks.

What a trace holds is what was true of its request. What it does not hold (why a source did not return a post) is
found out from the stores as they stand now, and said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import NotFoundError
from millrace.base.ids import IdHasher, IdKind, Int64Array, normalise_id
from millrace.base.params import ParamSet
from millrace.features.query_fields import VIEWER
from millrace.mixer.feed import OutcomeInfo
from millrace.mixer.gate import Reading, StateGate
from millrace.mixer.response import iso_time
from millrace.mixer.trace import Trace
from millrace.mixer.trace_answers import (
    GONE,
    ComponentInfo,
    FilterInfo,
    PostWhy,
    RequestTrace,
    ScoredPost,
    SourceInfo,
    SourceReason,
    StagePosts,
)
from millrace.mixer.trace_models import model_parts
from millrace.mixer.trace_reading import TraceReading
from millrace.pipeline.outcome import ComponentReport, Fate
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, PreRanker, Source
from millrace.stores.content_overlay import ContentReader

_FATES: Final = {
    Fate.LATE: "was late, so what it found was not used",
    Fate.FAILED: "failed",
    Fate.SKIPPED: "was left out: the deadline had passed",
}


class Explainer:
    """Renders traces.

    Parameters
    ----------
    gate
        Holds the state still.
    pipelines
        By name; traces of others cannot be explained post by post.
    content
        Gives ids and says which posts exist.
    hasher
        Ids to inside ids.
    clock
        Tells now, for what is asked of sources.
    """

    def __init__(
        self,
        gate: StateGate,
        pipelines: Mapping[str, Pipeline],
        content: ContentReader,
        hasher: IdHasher,
        clock: Clock,
    ) -> None:
        self._gate = gate
        self._pipelines = dict(pipelines)
        self._content = content
        self._hasher = hasher
        self._clock = clock

    async def request(self, trace: Trace, *, with_ids: bool = False, with_errors: bool = True) -> RequestTrace:
        """Return how a page was made; ``with_ids`` adds ids and scores after every stage.

        Without ``with_errors`` it says that something went wrong, not what: errors name paths and addresses.
        """
        async with self._gate.read() as reading:
            wanted = trace.keys if with_ids else trace.keys[trace.page_rows]
            texts = self._content.post_texts(wanted, reading.position)
        id_of = {key: text or GONE for key, text in zip(wanted.tolist(), texts, strict=True)}
        head = trace.head
        declared = self._pipelines[head.pipeline].params if head.pipeline in self._pipelines else {}
        return RequestTrace(
            request_id=head.request_id,
            viewer_id=head.viewer_id,
            generated_at=iso_time(head.now_ms),
            pipeline=head.pipeline,
            limit=head.limit,
            state_offset=head.state_offset,
            params={**{name: param.default for name, param in declared.items()}, **head.params},
            param_levels=head.param_levels,
            total_ms=head.total_ms,
            n_candidates=len(trace.keys),
            n_ranked=len(trace.ranked_rows),
            n_slate=len(trace.page_rows),
            degraded=bool(head.outcomes),
            sources=_sources(trace),
            filters=_filters(trace),
            components=tuple(_component(report) for report in head.components),
            outcomes=tuple(
                OutcomeInfo(
                    stage=o.stage, component=o.component, fate=o.fate.value, detail=o.detail if with_errors else ""
                )
                for o in head.outcomes
            ),
            posts=tuple(id_of[key] for key in trace.keys[trace.page_rows].tolist()),
            models=model_parts(head, with_errors=with_errors),
            stages=_stages(trace, id_of) if with_ids else None,
            models=head.models,
        )

    async def why(self, trace: Trace, post: str, *, with_errors: bool = True) -> PostWhy:
        """Return why a post is on the page of a trace, or why not; ``with_errors`` as for a request.

        Raises
        ------
        SchemaError
            If the post's id cannot be used.
        NotFoundError
            If neither the trace nor the content store knows the post.
        """
        post = normalise_id(post, "post id")
        key = self._hasher.one(IdKind.POST, post)
        row = trace.row_of(key)
        pipeline = self._pipelines.get(trace.head.pipeline)
        if row >= 0:
            return TraceReading(trace, pipeline, with_errors=with_errors).why(row, post)
        async with self._gate.read() as reading:
            (text,) = self._content.post_texts(np.array([key], dtype=np.int64), reading.position)
            if text is None:
                raise NotFoundError(
                    "post",
                    value=post,
                    problem="was no candidate of this request, and is not known now",
                    remedy="check the id; a post that was deleted or is past its retention cannot be asked about",
                )
            reasons = await self._not_retrieved(trace, pipeline, key, reading, with_errors=with_errors)
        return PostWhy(
            request_id=trace.head.request_id,
            post_id=post,
            verdict="not_retrieved",
            summary="No source returned it. What each source says holds as things stand now.",
            not_retrieved=reasons,
        )

    async def _not_retrieved(
        self, trace: Trace, pipeline: Pipeline | None, key: int, reading: Reading, *, with_errors: bool
    ) -> tuple[SourceReason, ...]:
        if pipeline is None:
            return ()
        head = trace.head
        query = await pipeline.hydrate_query(
            Query(
                request_id=head.request_id,
                viewer_id=self._hasher.one(IdKind.USER, head.viewer_id),
                now_ms=self._clock.now_ms(),
                limit=head.limit,
                params=ParamSet(head.params, head.param_levels),
                state_offset=tuple(reading.position),
                fields={VIEWER: head.viewer_id},
                is_dry_run=True,
            )
        )
        fates = {report.component: report for report in head.components if report.stage == Source.kind}
        details = {outcome.component: outcome.detail for outcome in head.outcomes if outcome.stage == Source.kind}
        return tuple(
            SourceReason(
                source=source.name,
                reason=_reason(
                    source,
                    query,
                    key,
                    fates.get(source.name),
                    details.get(source.name, "") if with_errors else "",
                    with_errors=with_errors,
                ),
            )
            for source in pipeline.stages.sources
        )


def _reason(
    source: Source, query: Query, key: int, report: ComponentReport | None, detail: str, *, with_errors: bool
) -> str:
    """Say why a source did not return a post: how its turn went, or else what the source itself says."""
    if report is None or report.fate is Fate.DISABLED:
        return "took no part: it is a last resort" if source.only_below is not None else "took no part"
    if report.fate in _FATES:
        return f"{_FATES[report.fate]} ({detail})" if detail else _FATES[report.fate]
    try:
        said = source.explain(query, key)
    except Exception as error:  # noqa: BLE001 - one that cannot say must not hide what the others say
        said = f"cannot say ({type(error).__name__}: {error})" if with_errors else "cannot say"
    cap = query.params.get_int(source.cap) if source.cap is not None else None
    if cap is not None and report.n_out >= cap:
        return f"{said}; it returned its full cap of {cap:,}"
    return f"{said}; it returned {report.n_out:,}"


def _sources(trace: Trace) -> tuple[SourceInfo, ...]:
    alone = dict(zip(*np.unique(trace.provenance, return_counts=True), strict=True))
    reports = {report.component: report for report in trace.head.components if report.stage == Source.kind}
    n_found = dict(trace.head.n_found)
    return tuple(
        SourceInfo(
            name=name,
            n_found=n_found.get(name, 0),
            n_unique=int(alone.get(1 << bit, 0)),
            took_ms=report.took_ms,
            fate=report.fate.value,
        )
        for bit, name in enumerate(trace.head.sources)
        if (report := reports.get(name)) is not None
    )


def _filters(trace: Trace) -> tuple[FilterInfo, ...]:
    n_dropped = np.bincount(trace.dropped_by, minlength=len(trace.head.drops)).tolist()
    turns: dict[str, list[ComponentReport]] = {}
    for report in trace.head.components:
        if report.stage in (Filter.kind, PreRanker.kind):
            turns.setdefault(report.component, []).append(report)
    return tuple(
        FilterInfo(
            name=name,
            n_in=turns[name][0].n_in,
            n_dropped=n,
            took_ms=sum(turn.took_ms for turn in turns[name]),
            fate=next((turn.fate for turn in turns[name] if turn.fate is not Fate.OK), Fate.OK).value,
        )
        for name, n in zip(trace.head.drops, n_dropped, strict=True)
        if name in turns
    )


def _component(report: ComponentReport) -> ComponentInfo:
    return ComponentInfo(
        stage=report.stage,
        component=report.component,
        fate=report.fate.value,
        start_ms=report.start_ms,
        took_ms=report.took_ms,
        n_in=report.n_in,
        n_out=report.n_out,
    )


def _stages(trace: Trace, id_of: Mapping[int, str]) -> tuple[StagePosts, ...]:
    reading = TraceReading(trace, None)

    def scored(rows: Int64Array, name: str) -> tuple[ScoredPost, ...]:
        scores = reading.scores(rows, name)
        return tuple(
            ScoredPost(post_id=id_of[key], score=score)
            for key, score in zip(trace.keys[rows].tolist(), scores, strict=True)
        )

    return (
        StagePosts(stage="retrieved", posts=scored(np.arange(len(trace.keys)), "")),
        StagePosts(stage="ranked", posts=scored(reading.best_first(), "score")),
        StagePosts(stage="page", posts=scored(trace.page_rows, "score")),
    )
