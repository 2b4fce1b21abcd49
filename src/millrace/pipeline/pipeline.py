"""`Pipeline`: stages in a fixed order; `execute` runs them for one request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from millrace.base.clock import Clock, SystemClock
from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.blueprint import Blueprint, Stages, is_waiting
from millrace.pipeline.column import Column
from millrace.pipeline.outcome import (
    ComponentReport,
    Fate,
    NullObserver,
    Outcome,
    PipelineObserver,
    PipelineReport,
)
from millrace.pipeline.query import Query, QueryField
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.run import Run, drop_names
from millrace.pipeline.stages import SideEffect
from millrace.pipeline.turns import Turns

logger = logging.getLogger(__name__)


class Pipeline:
    """Turns a query into a slate.

    Built once; holds nothing of a request, so any number of requests may run in it at a time.

    Parameters
    ----------
    name
        For reports, metrics and descriptions.
    stages
        Its stages in their order.
    key
        The int64 column that says which candidate a row is; every source writes it.
    dims
        Sizes of named trailing dimensions of columns, such as ``{"n_actions": 23}``.
    clock
        Gives monotonic time for deadlines and timings.
    observer
        Hears of every request.
    given
        Query fields that the caller puts into every query; stages may read them though no stage writes them.
    max_refills
        How often a page is chosen again after late filters dropped rows of it.
    is_strict
        Raise what stages raise instead of serving without them (tests, development).

    Raises
    ------
    PipelineError
        If the stages do not fit together: a stage reads what nobody before it writes, two share a name, a name
        is declared twice, a filter does not say what its failure means.
    """

    def __init__(
        self,
        name: str,
        stages: Stages,
        *,
        key: Column[Any],
        dims: Mapping[str, int] | None = None,
        clock: Clock | None = None,
        observer: PipelineObserver | None = None,
        given: tuple[QueryField[Any], ...] = (),
        max_refills: int = 8,
        is_strict: bool = False,
    ) -> None:
        self.name = name
        self.stages = stages
        self.blueprint = Blueprint(stages, key, given)
        self.waiting = frozenset(stage for _, group in stages.groups() for stage in group if is_waiting(stage))
        self.source_names = tuple(source.name for source in stages.sources)
        self.drop_names = drop_names(self.blueprint)
        self._dims = dict(dims or {})
        self._clock = clock or SystemClock()
        self._observer = observer or NullObserver()
        self._max_refills = max_refills
        self._is_strict = is_strict
        self._side_effects: set[asyncio.Task[None]] = set()

    @property
    def params(self) -> Mapping[str, Param]:
        """Every param that a stage declares, by name: what overrides are checked against."""
        return self.blueprint.declared_params

    async def execute(self, query: Query) -> PipelineResult:
        """Return the slate for a query. Raises nothing that a stage raises (unless strict).

        Side effects are not run: see `schedule_side_effects`.
        """
        turns = Turns(self._clock, query, self.waiting, is_strict=self._is_strict)
        run = Run(self.blueprint, query, turns, self._dims, self._max_refills)
        try:
            await run.hydrate_query()
            await run.retrieve()
            await run.hydrate()
            run.filter()
            if await run.retrieve_more():
                await run.hydrate()
                run.filter()
            run.pre_rank()
            run.rank()
            run.re_rank()
            await run.select()
            run.blend()
            return self._finish(run)
        except BaseException:  # a cancelled request too
            self.abandon(query)
            raise

    async def hydrate_query(self, query: Query) -> Query:
        """Return the query as the sources would get it now: what is known of the viewer, read anew."""
        turns = Turns(self._clock, query, self.waiting, is_strict=self._is_strict)
        run = Run(self.blueprint, query, turns, self._dims, self._max_refills)
        await run.hydrate_query()
        return run.query

    async def retrieve(self, query: Query) -> tuple[tuple[str, Int64Array], ...]:
        """Return what each source finds for a query: its name, and the keys, best first. Nothing that follows is run.

        Raises what a stage raises: who asks wants to know what the sources find, not what is served without one.
        """
        run = self._strict_run(query)
        await run.hydrate_query()
        await run.retrieve()
        return tuple(run.retrieved)

    async def score(self, query: Query, keys: Int64Array) -> CandidateBatch:
        """Return given candidates, each once, with all that hydrators and rankers write; nothing is filtered or chosen.

        For looking back at what was shown: who was beside whom may decide a score (author decay), so give what stood
        together. Raises what a stage raises.
        """
        run = self._strict_run(query)
        await run.hydrate_query()
        await run.take_given(keys)
        await run.hydrate()
        run.keep_all()
        run.rank()
        return run.ranked

    def _strict_run(self, query: Query) -> Run:
        turns = Turns(self._clock, query, self.waiting, is_strict=True)
        return Run(self.blueprint, query, turns, self._dims, self._max_refills)

    def abandon(self, query: Query) -> None:
        """Tell every stage that a request ends without an answer; `execute` does so itself where it raises."""
        for _, stages in self.stages.groups():
            for stage in stages:
                try:
                    stage.abandon(query)
                except Exception:
                    logger.exception("%s %s could not give back what a request had taken", stage.kind, stage.name)

    def schedule_side_effects(self, result: PipelineResult) -> None:
        """Begin all side effects in the running loop, detached from the request; failures are observed only.

        A dry run has none.
        """
        if result.query.is_dry_run:
            return
        for stage in self.stages.side_effects:
            task = asyncio.get_running_loop().create_task(self._run_side_effect(stage, result))
            self._side_effects.add(task)
            task.add_done_callback(self._side_effects.discard)

    async def drain(self) -> None:
        """Return once all side effects have ended and what was taken is given back; before a process stops."""
        while self._side_effects:
            await asyncio.wait(set(self._side_effects))
        await self.settle()

    async def settle(self) -> None:
        """Return once what abandoned requests had taken is given back."""
        for _, stages in self.stages.groups():
            for stage in stages:
                await stage.settle()

    async def _run_side_effect(self, stage: SideEffect, result: PipelineResult) -> None:
        start_s = self._clock.monotonic_s()
        outcome: Outcome | None = None
        try:
            if not stage.is_enabled(result.query):
                return
            async with asyncio.timeout(stage.timeout_ms / 1000):
                await stage.run(result.query, result)
        except TimeoutError:
            outcome = Outcome(stage.kind, stage.name, Fate.LATE, f"not done after {stage.timeout_ms} ms")
        except Exception as error:  # noqa: BLE001 - the page has left; observed below
            outcome = Outcome(stage.kind, stage.name, Fate.FAILED, f"{type(error).__name__}: {error}")
        took_ms = (self._clock.monotonic_s() - start_s) * 1000
        fate = outcome.fate if outcome is not None else Fate.OK
        n = result.slate.n
        report = ComponentReport(stage.kind, stage.name, fate, result.report.total_ms, took_ms, n, n)
        self._observer.observe_side_effect(self.name, report, outcome)

    def _finish(self, run: Run) -> PipelineResult:
        report = PipelineReport(
            pipeline=self.name,
            total_ms=run.turns.elapsed_ms(),
            components=tuple(run.turns.reports),
            outcomes=tuple(run.turns.outcomes),
            n_retrieved=sum(len(keys) for _, keys in run.retrieved),
            n_candidates=run.candidates.n,
            n_ranked=run.ranked.n,
            n_slate=run.slate.n,
            n_wanted=run.query.limit,
            n_refills=run.n_refills,
        )
        try:
            self._observer.observe(report)
        except Exception:
            logger.exception("the observer of pipeline %s failed", self.name)
        return PipelineResult(
            query=run.query,
            slate=run.slate,
            candidates=run.candidates,
            dropped_by=run.dropped_by,
            ranked=run.ranked,
            ranked_rows=run.ranked_rows,
            preranked=run.preranked,
            preranked_rows=run.preranked_rows,
            slate_rows=run.ranked_rows[run.slate_rows],
            retrieved=tuple(run.retrieved),
            attachments=run.attachments,
            report=report,
            key=self.blueprint.key,
            source_names=self.source_names,
            drop_names=self.drop_names,
        )
