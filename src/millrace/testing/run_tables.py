"""Records of a run written by hand, a few rows at a time: what a test does not name is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from millrace.simulator.judge.tables import SCHEMAS
from millrace.simulator.mechanisms.situation import WORLD_ACTIONS
from millrace.simulator.records import RunMeta, RunRecords
from millrace.testing.run_plan import BEGAN_MS, DAY_MS, KINDS, LANGUAGES, SOURCES, TOPICS

Rows = Sequence[Mapping[str, Any]]


def a_meta(*, n_days: float = 2, arms: tuple[str, ...] = ("feed",)) -> RunMeta:
    """Return what a small run is: it begins at `BEGAN_MS`."""
    return RunMeta(
        mechanism="made up",
        size="made up",
        seed=1,
        arms=arms,
        began_ms=BEGAN_MS,
        ended_ms=BEGAN_MS + int(n_days * DAY_MS),
        topics=TOPICS,
        languages=LANGUAGES,
        kinds=KINDS,
        sources=SOURCES,
        actions=tuple(action.label for action in WORLD_ACTIONS),
        page_limit=20,
    )


def a_table_of(name: str, rows: Rows) -> pl.DataFrame:
    """Return a table of the records with these rows; columns that none names are zero, False or empty.

    Predictions that a row does not name are NaN: nothing was predicted.
    """
    columns = {}
    for column, kind in SCHEMAS[name].items():
        blank = _blank(column, kind)
        columns[column] = pl.Series(column, [row.get(column, blank) for row in rows], dtype=kind)
    return pl.DataFrame(columns)


def small_run(meta: RunMeta | None = None, **tables: Rows) -> RunRecords:
    """Return a run with these rows, by table."""
    return RunRecords(meta or a_meta(), {name: a_table_of(name, rows) for name, rows in tables.items()})


def _blank(column: str, kind: pl.DataType) -> Any:
    if column.startswith("pred_"):
        return float("nan")
    return {pl.Boolean(): False, pl.String(): ""}.get(kind, 0)
