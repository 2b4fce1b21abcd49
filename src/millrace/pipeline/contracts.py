"""Contracts of stages at run time: what an answer must be to be used. Cheap: types and shapes, never values.

Each function returns a check for one turn; a check raises `PipelineError` or returns the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from millrace.base.errors import PipelineError
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import Attachment, Column
from millrace.pipeline.stages import Filter, Source, Stage


def contract_error(stage: Stage, value: object, problem: str, remedy: str) -> PipelineError:
    """Return the error for an answer that is not what the stage's kind promises."""
    return PipelineError(f"answer of {stage.kind} {stage.name}", value=value, problem=problem, remedy=remedy)


def checks_batch(stage: Source, key: Column[Any]) -> Callable[[Any], int]:
    """Return a check that a source returned a batch with the key and all columns it writes."""

    def check(value: Any) -> int:
        if not isinstance(value, CandidateBatch):
            raise contract_error(stage, value, "not a CandidateBatch", "return one, of no rows if need be")
        for column in (key, *stage.writes):
            if column not in value:
                raise contract_error(stage, column, "column missing", "return all columns it writes")
        return value.n

    return check


def checks_fields(stage: Stage) -> Callable[[Any], int]:
    """Return a check that a query hydrator returned its fields, all and no others."""

    def check(value: Any) -> int:
        if value.keys() != set(stage.writes):
            raise contract_error(stage, list(value), "not the fields it writes", "return all of them and no others")
        return 0

    return check


def checks_values(stage: Stage, n: int) -> Callable[[Any], int]:
    """Return a check that a stage returned what it writes, ``n`` rows each."""

    def check(value: Any) -> int:
        if value.keys() != set(stage.writes):
            raise contract_error(stage, list(value), "not what it writes", "return all of it and nothing else")
        for thing, data in value.items():
            if not isinstance(thing, Attachment):
                thing.check(data, n)
        return n

    return check


def check_mask(stage: Filter, n: int, value: Any) -> None:
    """Raise unless a filter returned a mask of ``n`` rows."""
    if type(value) is not np.ndarray or value.dtype != np.bool_ or value.shape != (n,):
        raise contract_error(stage, value, f"not a bool mask of {n} rows", "return True for each row to keep")


def checks_mask(stage: Filter, n: int) -> Callable[[Any], int]:
    """Return a check of a filter's mask; it returns how many rows are kept."""

    def check(value: Any) -> int:
        check_mask(stage, n, value)
        return int(np.count_nonzero(value))

    return check


def checks_rows(stage: Stage, n: int, most: int) -> Callable[[Any], int]:
    """Return a check that a stage returned at most ``most`` different rows below ``n``."""

    def check(value: Any) -> int:
        if type(value) is not np.ndarray or value.dtype.kind != "i" or value.ndim != 1 or len(value) > most:
            raise contract_error(stage, value, f"not at most {most} row numbers", "return an int array, best first")
        is_taken = np.zeros(n, dtype=np.bool_)
        is_taken[value] = True  # raises where a row number is too large
        if np.count_nonzero(is_taken) < len(value):
            raise contract_error(stage, value, f"not distinct rows below {n}", "return each row once at most")
        return len(value)

    return check
