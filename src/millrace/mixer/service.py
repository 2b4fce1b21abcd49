"""`FeedService`: one request in, one page out, all stores read at one log position; asked again, the same page."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from millrace.base.errors import SchemaError
from millrace.base.ids import IdHasher, IdKind, normalise_id
from millrace.base.params import Param, ParamSet
from millrace.features.query_fields import BOUNDARY, CONTEXT, VIEWER
from millrace.mixer.config import HomeConfig
from millrace.mixer.cursor import CursorCodec
from millrace.mixer.explain import Explainer
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.mixer.filters.claims import ClaimFilter
from millrace.mixer.following_pipeline import TimelineEnd, following_pipeline
from millrace.mixer.gate import StateGate
from millrace.mixer.home_models import ARM, MODELS, NO_MODELS, HomeModels, lane_of
from millrace.mixer.home_pipeline import HomeParts, home_pipeline
from millrace.mixer.paging import End, Pager, Place, PoolEnd, store_is_silent
from millrace.mixer.response import ResponseBuilder
from millrace.mixer.trace import TracePacker
from millrace.mixer.trace_keeper import TraceKeeper
from millrace.mixer.why import WhyReader
from millrace.pipeline.outcome import Fate, PipelineObserver
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Deadline, Query
from millrace.pipeline.result import PipelineResult
from millrace.stores.trace_store import TraceStore


@dataclass(frozen=True, slots=True)
class _Timeline:
    """One kind of page: how it is made, and what comes after it."""

    pipeline: Pipeline
    responses: ResponseBuilder
    end: Callable[[PipelineResult], End]


class FeedService:
    """Serves the home feed and the following timeline.

    Parameters
    ----------
    gate
        Holds the state still.
    parts
        Stores and neighbours; the pipelines are built from them.
    hasher
        Ids to inside ids.
    config
        Sizes and times.
    params
        Overrides by name at level ``config``; checked against what the pipelines declare.
    observer
        Hears of every request.
    cursor_key
        Signs cursors, the same in all workers; None draws one, and cursors are good in this process alone.
    traces
        Keeps what explains each request; None keeps nothing.

    Attributes
    ----------
    params
        What requests are served with that bring none of their own. May be replaced at any time: a request reads it
        once, at its beginning.

    Raises
    ------
    ConfigError
        Naming every param that is not known or out of bounds.
    """

    def __init__(
        self,
        gate: StateGate,
        parts: HomeParts,
        hasher: IdHasher,
        config: HomeConfig | None = None,
        *,
        params: Mapping[str, object] | None = None,
        observer: PipelineObserver | None = None,
        cursor_key: bytes | None = None,
        traces: TraceStore | None = None,
    ) -> None:
        self.config = config or HomeConfig()
        self.pipeline = home_pipeline(parts, self.config, observer)
        self.following_pipeline = following_pipeline(parts, self.config, observer)
        self.params = ParamSet().override("config", params or {}, self.declared_params)
        self._gate = gate
        self.models = parts.models
        # Pages are made by the CPU of one event loop: more at a time would end no sooner, and the folding that
        # waits for all of them would fall behind by the sum of their times.
        self._turns = asyncio.Semaphore(self.config.max_concurrent)
        self._hasher = hasher
        self._clock = parts.clock
        language_name = parts.state.codes.languages.name
        why = WhyReader(self.pipeline.stages.rankers, parts.actions.names)
        self._home = _Timeline(self.pipeline, ResponseBuilder(why, language_name), PoolEnd(self.pipeline.stages))
        self._following = _Timeline(
            self.following_pipeline,
            ResponseBuilder(None, language_name),
            TimelineEnd(self.following_pipeline.stages),
        )
        self._pager = Pager(
            parts.claims,
            CursorCodec(cursor_key or secrets.token_bytes(32)),
            ttl_ms=self.config.page_ttl_ms,
            timeout_ms=self.config.claim_timeout_ms,
        )
        pipelines = {pipeline.name: pipeline for pipeline in (self.pipeline, self.following_pipeline)}
        packers = {name: TracePacker(pipeline, parts.actions.names) for name, pipeline in pipelines.items()}
        self.traces = TraceKeeper(packers, traces, is_strict=self.config.is_strict)
        self.explainer = Explainer(gate, pipelines, parts.content, hasher, parts.clock)

    @property
    def declared_params(self) -> Mapping[str, Param]:
        """Every param of the pipelines, by name."""
        return {**self.following_pipeline.params, **self.pipeline.params}

    async def home(self, request: FeedRequest) -> FeedResponse:
        """Return a page of the ranked feed; side effects begin before it returns and end after.

        No content is on two pages of a viewer, but for the same page asked for again.

        Raises
        ------
        SchemaError
            If the viewer's id, the limit or the cursor cannot be used.
        NotReadyError
            If the claim store does not answer: what is not claimed must not leave. Whatever else fails inside is an
            outcome.
        """
        return await self._serve(self._home, request)

    async def following(self, request: FeedRequest) -> FeedResponse:
        """Return a page of the chronological timeline; see `home` for what is raised."""
        return await self._serve(self._following, request)

    async def home_with_result(self, request: FeedRequest) -> tuple[FeedResponse, PipelineResult]:
        """Return a page that was made now, and the result it was made from (explanations, tests)."""
        return await self._make_now(self._home, request)

    async def following_with_result(self, request: FeedRequest) -> tuple[FeedResponse, PipelineResult]:
        """Return a page of the chronological timeline that was made now, and the result it was made from."""
        return await self._make_now(self._following, request)

    async def execute(self, request: FeedRequest) -> PipelineResult:
        """Run the home pipeline for a request, without a response and without side effects."""
        return await self._execute(self._home, request, self._place(self._home, request))

    async def drain(self) -> None:
        """Return once all side effects have ended, and what requests without an answer had taken is given back."""
        await self.pipeline.drain()
        await self.following_pipeline.drain()

    async def _serve(self, timeline: _Timeline, request: FeedRequest) -> FeedResponse:
        place = self._place(timeline, request)
        page = await self._pager.find(place, self._clock.now_ms())
        if page is None:
            # Whoever asks for a page again may ask for its debug information then.
            wanted = replace(request, debug=True) if place.key else request
            made, result = await self._make(timeline, wanted, place)
            # From here on the page may be kept: whatever happens, its claims are not given back unless another won.
            try:
                page = await self._pager.keep(place, made, result.query.now_ms)
            except BaseException:
                # Sent when it is asked for again, if it was kept; then nothing is at hand to write `Served` from.
                timeline.pipeline.schedule_side_effects(result)
                raise
            if page is made:
                timeline.pipeline.schedule_side_effects(result)
            else:
                timeline.pipeline.abandon(result.query)
                await timeline.pipeline.settle()  # whoever asks for the next page finds these posts free
        return page if request.debug else replace(page, debug_info=None)

    async def _make_now(self, timeline: _Timeline, request: FeedRequest) -> tuple[FeedResponse, PipelineResult]:
        response, result = await self._make(timeline, request, self._place(timeline, request))
        timeline.pipeline.schedule_side_effects(result)
        return response, result

    async def _make(
        self, timeline: _Timeline, request: FeedRequest, place: Place
    ) -> tuple[FeedResponse, PipelineResult]:
        result = await self._execute(timeline, request, place)
        try:
            _check_claimed(result)
            end = timeline.end(result)
            cursor = self._pager.cursor_after(place, end)
            response = timeline.responses.build(request, result, end_of_feed=end.is_exhausted, cursor=cursor)
            self.traces.keep(result)  # before the answer leaves: whoever has it may ask why at once
        except BaseException:
            timeline.pipeline.abandon(result.query)
            raise
        return response, result

    async def _execute(self, timeline: _Timeline, request: FeedRequest, place: Place) -> PipelineResult:
        limit = self._limit(request.limit)
        async with self._turns:
            deadline = Deadline.after_ms(self._clock, self.config.deadline_ms)
            params = self.params if request.params is None else request.params
            lane = lane_of(request.lane, params.get_int(ARM))
            # The models are held before the state: a swap must not wait for folding, nor folding for a swap.
            with self.models.lease(lane) as models:
                return await self._execute_with(models, params, timeline, request, place, limit, deadline)

    async def _execute_with(
        self,
        models: HomeModels,
        params: ParamSet,
        timeline: _Timeline,
        request: FeedRequest,
        place: Place,
        limit: int,
        deadline: Deadline,
    ) -> PipelineResult:
        async with self._gate.read() as reading:
            query = Query(
                request_id=request.request_id,
                viewer_id=place.cursor.viewer_id,
                now_ms=self._clock.now_ms(),
                limit=limit,
                params=params,
                deadline=deadline,
                state_offset=tuple(reading.position),
                fields={
                    VIEWER: normalise_id(request.viewer_id, "viewer id"),
                    CONTEXT: request.context,
                    BOUNDARY: place.cursor.boundary,
                    MODELS: models if timeline is self._home else NO_MODELS,
                },
                is_dry_run=request.is_dry_run,
            )
            return await timeline.pipeline.execute(query)

    def _place(self, timeline: _Timeline, request: FeedRequest) -> Place:
        viewer = normalise_id(request.viewer_id, "viewer id")
        self._limit(request.limit)
        return self._pager.place(timeline.pipeline.name, self._hasher.one(IdKind.USER, viewer), request)

    def _limit(self, limit: int | None) -> int:
        if limit is None:
            return self.config.page_size
        if not 1 <= limit <= self.config.max_page_size:
            raise SchemaError(
                "limit",
                value=limit,
                problem="out of bounds",
                remedy=f"ask for 1 to {self.config.max_page_size} posts",
            )
        return limit


def _check_claimed(result: PipelineResult) -> None:
    """Raise unless the page's posts are claimed (or need not be): nothing leaves that may leave again."""
    for outcome in result.report.outcomes:
        is_claims = (outcome.stage, outcome.component) == (ClaimFilter.kind, ClaimFilter.name)
        if is_claims and outcome.fate in (Fate.FAILED, Fate.LATE):
            raise store_is_silent(outcome.detail)
