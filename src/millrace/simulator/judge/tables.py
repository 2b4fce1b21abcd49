"""The records' tables with their full schema, and the few joins that every judgement needs."""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

from millrace.base.errors import MillraceError
from millrace.simulator.mechanisms.situation import WORLD_ACTIONS
from millrace.simulator.records import RunMeta, RunRecords

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

RULES: Final = ("own", "blocked", "deleted", "repeated", "sensitive")
"""What must not be on a page; column ``n_<rule>`` of ``pages`` counts it."""

_I8, _I16, _I32, _I64 = pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64()
_F32, _F64, _BOOL, _U32 = pl.Float32(), pl.Float64(), pl.Boolean(), pl.UInt32()

SCHEMAS: Final[dict[str, dict[str, pl.DataType]]] = {
    "pages": {
        "page": _I64,
        "request_id": pl.String(),
        "slice_ms": _I64,
        "time_ms": _I64,
        "arm": _I8,
        "viewer": _I32,
        "session": _I64,
        "page_no": _I16,
        "n_items": _I16,
        "n_candidates": _I32,
        "n_outcomes": _I16,
        "n_examined": _I16,
        "value": _F64,
        "satisfaction": _F64,
        "did_value": _F64,
        "did_satisfaction": _F64,
        "n_positive": _I16,
        "n_negative": _I16,
        **{f"n_{rule}": _I16 for rule in RULES},
    },
    "items": {
        "page": _I64,
        "position": _I16,
        "arm": _I8,
        "viewer": _I32,
        "post": _I64,
        "author": _I32,
        "topic": _I8,
        "language": _I8,
        "kind": _I8,
        "age_ms": _I64,
        "is_followed": _BOOL,
        "sources": _U32,
        "examine": _F32,
        "is_examined": _BOOL,
        "liking": _F32,
        "value": _F32,
        "satisfaction": _F32,
        "score": _F32,
        "dwell_ms": _I32,
        "did": _U32,
        **{f"true_{action.label}": _F32 for action in WORLD_ACTIONS},
        **{f"pred_{action.label}": _F32 for action in WORLD_ACTIONS},
    },
    "regret": {
        "page": _I64,
        "arm": _I8,
        "viewer": _I32,
        "time_ms": _I64,
        "best_all": _F64,
        "best_retrieved": _F64,
        "best_filtered": _F64,
        "best_preranked": _F64,
        "ranked": _F64,
        "served": _F64,
        "bound_all": _F64,
        "n_all": _I32,
        "n_retrieved": _I32,
        "n_filtered": _I32,
    },
    "sessions": {
        "session": _I64,
        "arm": _I8,
        "viewer": _I32,
        "started_ms": _I64,
        "ended_ms": _I64,
        "n_pages": _I32,
        "value": _F64,
        "satisfaction": _F64,
        "did_value": _F64,
        "did_satisfaction": _F64,
        "n_negative": _I32,
        "mood": _F32,
    },
    "posts": {
        "post": _I64,
        "author": _I32,
        "created_ms": _I64,
        "topic": _I8,
        "language": _I8,
        "kind": _I8,
        "quality": _F32,
        "is_spam": _BOOL,
        "story": _I32,
    },
    "users": {
        "user": _I32,
        "language": _I8,
        "joined_ms": _I64,
        "is_spammer": _BOOL,
        "is_silent": _BOOL,
        "n_following": _I32,
        "n_followers": _I32,
        "sessions_per_day": _F32,
        "arm": _I8,
    },
}


def table(records: RunRecords, name: str) -> pl.DataFrame:
    """Return a table with the columns and types of `SCHEMAS`; where nothing was recorded, without rows.

    The types matter to joins, and a run may have been written by an earlier version or by another machine.

    Raises
    ------
    MillraceError
        If columns are missing.
    """
    frame, schema = records[name], SCHEMAS[name]
    if frame.is_empty():
        return pl.DataFrame(schema=schema)
    missing = [column for column in schema if column not in frame.columns]
    if missing:
        raise MillraceError(
            "table of the records",
            value=name,
            problem=f"has no {', '.join(missing)}",
            remedy="judge the run with the version of Millrace that made it",
        )
    return frame.cast({column: kind for column, kind in schema.items() if frame.schema[column] != kind})


def is_new(meta: RunMeta) -> pl.Expr:
    """Return the condition that a user joined while the run was going on."""
    return pl.col("joined_ms") >= meta.began_ms


def viewers(records: RunRecords) -> pl.DataFrame:
    """Return everybody who might have come (to this arm): the columns of ``users``, ``is_new`` and ``days_present``.

    The column ``user`` is called ``viewer``, as elsewhere.
    ``users`` is written when a run ends; before that the people are those who have fetched a page, of whom only the
    arm is known. ``days_present`` (float64) is how long each could have come within the run, in days.
    """
    meta, users = records.meta, table(records, "users")
    if isinstance(records, ArmRecords):
        users = users.filter(pl.col("arm") == records.arm)
    length = max(meta.ended_ms - meta.began_ms, 1) / DAY_MS
    if users.is_empty():
        seen = table(records, "pages").group_by("viewer").agg(pl.col("arm").first())
        return seen.with_columns(is_new=pl.lit(value=False), days_present=pl.lit(length)).sort("viewer")
    days = (meta.ended_ms - pl.max_horizontal("joined_ms", pl.lit(meta.began_ms))) / DAY_MS
    return (
        users.rename({"user": "viewer"})
        .filter(pl.col("joined_ms") < meta.ended_ms)
        .with_columns(is_new=is_new(meta), days_present=days.cast(pl.Float64))
        .sort("viewer")
    )


class ArmRecords(RunRecords):
    """What one arm's people were served and did; posts and people belong to the world and stay whole.

    Parameters
    ----------
    records
        The run.
    arm
        Code of the arm.
    """

    def __init__(self, records: RunRecords, arm: int) -> None:
        frames = {name: table(records, name) for name in SCHEMAS}
        served = {name: frames[name].filter(pl.col("arm") == arm) for name in ("pages", "items", "regret", "sessions")}
        super().__init__(msgspec.structs.replace(records.meta, arms=(records.meta.arms[arm],)), frames | served)
        self.arm = arm


def by_policy(records: RunRecords, name: str | None = None) -> dict[str, RunRecords]:
    """Return a run's arms as runs of their own, by the arm's name (after ``name``, where given)."""
    arms = records.meta.arms
    if len(arms) < 2:
        return {name or (arms[0] if arms else "feed"): records}
    return {label if name is None else f"{name} · {label}": ArmRecords(records, arm) for arm, label in enumerate(arms)}
