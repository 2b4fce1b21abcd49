"""Fakes of every stage kind that are a line to set up: given answers, given failures, given delays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from millrace.base.order import top_k
from millrace.base.params import Param
from millrace.features.columns import POST_ID, SCORE
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import AnyColumn, BoolArray, Column, IntArray
from millrace.pipeline.outcome import ComponentReport, Outcome, PipelineReport
from millrace.pipeline.query import Query, QueryField
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import (
    ColumnValues,
    FieldValues,
    Filter,
    HydratedValues,
    Hydrator,
    OnError,
    QueryHydrator,
    Ranker,
    Readable,
    Selector,
    SideEffect,
    Source,
)
from millrace.testing.pipeline_builders import a_batch


class FakeQueryHydrator(QueryHydrator):
    """Writes given values, or raises a given error."""

    def __init__(
        self,
        values: Mapping[QueryField[Any], Any],
        *,
        name: str = "fake_query",
        error: Exception | None = None,
        last_known: FieldValues | None = None,
        reads: tuple[Readable, ...] = (),
    ) -> None:
        self.name, self.reads, self.writes = name, reads, tuple(values)
        self._values, self._error, self._last_known = values, error, last_known

    def hydrate(self, query: Query) -> FieldValues:
        """Return the values or raise the error."""
        if self._error is not None:
            raise self._error
        return self._values

    def fallback(self, query: Query) -> FieldValues | None:
        """Return the last known values."""
        return self._last_known


class FakeSource(Source):
    """Finds given posts."""

    def __init__(
        self,
        columns: Mapping[AnyColumn, Any],
        *,
        name: str = "fake",
        error: Exception | None = None,
        cap: Param | None = None,
    ) -> None:
        self.name, self.cap = name, cap
        self.writes = tuple(column for column in columns if column is not POST_ID)
        self._columns, self._error = columns, error

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return the posts or raise the error."""
        if self._error is not None:
            raise self._error
        return a_batch(self._columns)


class SlowSource(Source):
    """Finds given posts after a wait; never ends if the wait is None."""

    def __init__(
        self, post_ids: Sequence[int], *, name: str = "slow", wait_s: float | None = None, timeout_ms: float = 5.0
    ) -> None:
        self.name, self.timeout_ms = name, timeout_ms
        self._post_ids, self._wait_s = post_ids, wait_s
        self.was_cancelled = False

    async def retrieve(self, query: Query) -> CandidateBatch:
        """Wait, then return the posts."""
        try:
            if self._wait_s is None:
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(self._wait_s)
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return a_batch({POST_ID: list(self._post_ids)})


class FakeHydrator(Hydrator):
    """Computes its columns by a function of the batch; counts the rows it was given."""

    def __init__(
        self,
        writes: tuple[Readable, ...],
        compute: Callable[[CandidateBatch], Mapping[Any, Any]],
        *,
        name: str = "fake",
        reads: tuple[Readable, ...] = (),
        last_known: Callable[[CandidateBatch], Mapping[Any, Any]] | None = None,
    ) -> None:
        self.name, self.reads, self.writes = name, reads, writes
        self._compute, self._last_known = compute, last_known
        self.n_rows: list[int] = []

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return what the function gives."""
        self.n_rows.append(batch.n)
        return self._compute(batch)

    def fallback(self, query: Query, batch: CandidateBatch) -> HydratedValues | None:
        """Return what the other function gives."""
        return self._last_known(batch) if self._last_known is not None else None


class FakeFilter(Filter):
    """Keeps what a function of the batch says."""

    def __init__(
        self,
        keep: Callable[[CandidateBatch], Any],
        *,
        name: str = "fake",
        on_error: OnError = OnError.KEEP_ALL,
        reads: tuple[Readable, ...] = (),
        is_on: bool = True,
    ) -> None:
        self.name, self.reads, self.on_error = name, reads, on_error
        self._keep, self._is_on = keep, is_on

    def is_enabled(self, query: Query) -> bool:
        """Whether it was switched on."""
        return self._is_on

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return what the function gives."""
        return self._keep(batch)  # type: ignore[no-any-return]


class FakeRanker(Ranker):
    """Scores by a function of the batch; writes `SCORE` unless told otherwise."""

    def __init__(
        self,
        score: Callable[[CandidateBatch], Any],
        *,
        name: str = "fake",
        column: Column[Any] = SCORE,
        reads: tuple[Readable, ...] = (),
    ) -> None:
        self.name, self.reads, self.writes = name, reads, (column,)
        self._score, self._column = score, column

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        """Return the function's scores in the column's type."""
        return {self._column: np.asarray(self._score(batch), dtype=self._column.dtype)}


class TopSelector(Selector):
    """Takes the best by a column (default: the first rows as they come)."""

    name = "top"

    def __init__(self, by: Column[Any] | None = None) -> None:
        self._by = by
        self.reads = (by,) if by is not None else ()

    def select(self, query: Query, batch: CandidateBatch, n_wanted: int) -> IntArray:
        """Return the best rows."""
        if self._by is None:
            return np.arange(min(n_wanted, batch.n))
        return top_k(batch[self._by], batch[POST_ID], n_wanted)


class RecordingSideEffect(SideEffect):
    """Remembers the results it was given."""

    name = "recording"

    def __init__(self, *, error: Exception | None = None) -> None:
        self.results: list[PipelineResult] = []
        self._error = error

    async def run(self, query: Query, result: PipelineResult) -> None:
        """Remember the result or raise the error."""
        if self._error is not None:
            raise self._error
        self.results.append(result)


class RecordingObserver:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.reports: list[PipelineReport] = []
        self.side_effects: list[tuple[str, ComponentReport, Outcome | None]] = []

    def observe(self, report: PipelineReport) -> None:
        """Remember the report."""
        self.reports.append(report)

    def observe_side_effect(self, pipeline: str, report: ComponentReport, outcome: Outcome | None) -> None:
        """Remember the side effect."""
        self.side_effects.append((pipeline, report, outcome))
