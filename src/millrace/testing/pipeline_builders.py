"""Builders for pipeline tests: a query, a batch, and one stage's answer in a line.

::

    batch = a_batch({POST_ID: [1, 2, 3], AUTHOR_ID: [10, 20, 30]})
    assert kept(filter_, a_query({BLOCKED: [20]}), batch) == [1, 3]
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from millrace.base.params import Param, ParamSet, ParamValue
from millrace.features.columns import N_ACTIONS_DIM, N_COUNTERS_DIM, N_DENSE_DIM, POST_ID
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import AnyColumn, Column
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Query, QueryField
from millrace.pipeline.ragged import Ragged
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import Filter, Ranker
from millrace.testing.builders import NOW_MS

DIMS: Mapping[str, int] = {N_ACTIONS_DIM: 23, N_COUNTERS_DIM: 24, N_DENSE_DIM: 68}


def a_query(
    fields: Mapping[QueryField[Any], Any] | None = None,
    *,
    request_id: str = "r1",
    viewer_id: int = 20,
    now_ms: int = NOW_MS,
    limit: int = 35,
    params: Mapping[Param, ParamValue] | None = None,
    **more: Any,
) -> Query:
    """Return a query; lists given for fields become int64 arrays (int32 where the field's default is)."""
    values = {field: _array_like(value, field.default) for field, value in (fields or {}).items()}
    overrides = {param.name: param.check(value) for param, value in (params or {}).items()}
    levels = dict.fromkeys(overrides, "config")
    return Query(request_id, viewer_id, now_ms, limit, params=ParamSet(overrides, levels), fields=values, **more)


def a_batch(columns: Mapping[AnyColumn, Any] | None = None, *, n: int | None = None) -> CandidateBatch:
    """Return a batch of the given lists in their columns' types; `POST_ID` is 1, 2, ... unless it is given."""
    given = dict(columns or {})
    if n is None:
        n = len(next(iter(given.values()))) if given else 0
    given.setdefault(POST_ID, list(range(1, n + 1)))
    return CandidateBatch({column: _column_data(column, value) for column, value in given.items()}, n)


def kept(stage: Filter, query: Query, batch: CandidateBatch) -> list[int]:
    """Return the ids of the posts that a filter keeps, in their order."""
    keep = stage.keep(query, batch)
    if inspect.isawaitable(keep):
        keep = asyncio.run(_wait_for(keep))
    return [int(i) for i in batch[POST_ID][keep]]


def ranked(stage: Ranker, query: Query, batch: CandidateBatch) -> CandidateBatch:
    """Return the batch with the columns that a ranker writes; checked against its declaration."""
    new = stage.rank(query, batch)
    if set(new) != set(stage.writes):
        raise AssertionError(f"{stage.name} wrote {list(new)}, declares {list(stage.writes)}")
    return batch.with_columns(new)


def execute(pipeline: Pipeline, query: Query) -> PipelineResult:
    """Run a pipeline to its end, side effects included."""

    async def run() -> PipelineResult:
        result = await pipeline.execute(query)
        pipeline.schedule_side_effects(result)
        await pipeline.drain()
        return result

    return asyncio.run(run())


async def _wait_for(awaitable: Any) -> Any:
    return await awaitable


def _array_like(value: Any, default: Any) -> Any:
    if isinstance(default, np.ndarray) and not isinstance(value, np.ndarray):
        return np.asarray(value, dtype=default.dtype)
    return value


def _column_data(column: AnyColumn, value: Any) -> Any:
    if isinstance(value, np.ndarray | Ragged):
        return value
    if isinstance(column, Column):
        return np.array(value, dtype=column.dtype).reshape(
            len(value), *(DIMS[s] if isinstance(s, str) else s for s in column.shape)
        )
    return Ragged.from_rows(value, column.dtype)
