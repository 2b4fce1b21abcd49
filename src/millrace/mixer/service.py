"""`FeedService`: one request in, one page out, all stores read at one log position."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from millrace.base.errors import SchemaError
from millrace.base.ids import IdHasher, IdKind, normalise_id
from millrace.base.params import Param, ParamSet
from millrace.features.query_fields import CONTEXT, VIEWER
from millrace.mixer.config import HomeConfig
from millrace.mixer.explain import Explainer
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.mixer.gate import StateGate
from millrace.mixer.home_pipeline import NAME, HomeParts, home_pipeline
from millrace.mixer.response import ResponseBuilder
from millrace.mixer.trace import TracePacker
from millrace.mixer.trace_keeper import TraceKeeper
from millrace.mixer.why import WhyReader
from millrace.pipeline.outcome import PipelineObserver
from millrace.pipeline.query import Deadline, Query
from millrace.pipeline.result import PipelineResult
from millrace.stores.trace_store import TraceStore


class FeedService:
    """Serves the home feed.

    Parameters
    ----------
    gate
        Holds the state still.
    parts
        Stores and neighbours; the pipeline is built from them.
    hasher
        Ids to inside ids.
    config
        Sizes and times.
    params
        Overrides by name at level ``config``; checked against what the pipeline declares.
    observer
        Hears of every request.
    traces
        Keeps what explains each request; None keeps nothing.

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
        traces: TraceStore | None = None,
    ) -> None:
        self.config = config or HomeConfig()
        self.pipeline = home_pipeline(parts, self.config, observer)
        self.params = ParamSet().override("config", params or {}, self.pipeline.params)
        self._gate = gate
        # Pages are made by the CPU of one event loop: more at a time would end no sooner, and the folding that
        # waits for all of them would fall behind by the sum of their times.
        self._turns = asyncio.Semaphore(self.config.max_concurrent)
        self._hasher = hasher
        self._clock = parts.clock
        why = WhyReader(self.pipeline.stages.rankers, parts.actions.names)
        self._responses = ResponseBuilder(why, parts.state.codes.languages.name)
        packer = TracePacker(self.pipeline, parts.actions.names)
        self.traces = TraceKeeper(packer, traces, is_strict=self.config.is_strict)
        self.explainer = Explainer(gate, {NAME: self.pipeline}, parts.content, hasher, parts.clock)

    @property
    def declared_params(self) -> Mapping[str, Param]:
        """Every param of the pipeline, by name."""
        return self.pipeline.params

    async def home(self, request: FeedRequest) -> FeedResponse:
        """Return a page; side effects begin before it returns and end after.

        Raises
        ------
        SchemaError
            If the viewer's id or the limit cannot be used. Nothing else: what fails inside is an outcome.
        """
        response, _ = await self.home_with_result(request)
        return response

    async def home_with_result(self, request: FeedRequest) -> tuple[FeedResponse, PipelineResult]:
        """Return a page and the result it was made from (explanations, tests)."""
        result = await self.execute(request)
        try:
            response = self._responses.build(request, result)
            self.traces.keep(result)  # before the answer leaves: whoever has it may ask why at once
            self.pipeline.schedule_side_effects(result)
        except BaseException:
            self.pipeline.abandon(result.query)
            raise
        return response, result

    async def execute(self, request: FeedRequest) -> PipelineResult:
        """Run the pipeline for a request, without a response and without side effects."""
        viewer = normalise_id(request.viewer_id, "viewer id")
        limit = self._limit(request.limit)
        viewer_id = self._hasher.one(IdKind.USER, viewer)
        async with self._turns:
            return await self._execute(request, viewer, viewer_id, limit)

    async def _execute(self, request: FeedRequest, viewer: str, viewer_id: int, limit: int) -> PipelineResult:
        deadline = Deadline.after_ms(self._clock, self.config.deadline_ms)
        async with self._gate.read() as reading:
            query = Query(
                request_id=request.request_id,
                viewer_id=viewer_id,
                now_ms=self._clock.now_ms(),
                limit=limit,
                params=self.params if request.params is None else request.params,
                deadline=deadline,
                state_offset=tuple(reading.position),
                fields={VIEWER: viewer, CONTEXT: request.context},
                is_dry_run=request.is_dry_run,
            )
            return await self.pipeline.execute(query)

    async def drain(self) -> None:
        """Return once all side effects have ended."""
        await self.pipeline.drain()

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
