from __future__ import annotations

import polars as pl
import pytest

from millrace.base.errors import MillraceError
from millrace.simulator.judge.exposure import exposure
from millrace.simulator.judge.findings import findings
from millrace.simulator.judge.tables import SCHEMAS, by_policy, table, viewers
from millrace.simulator.records import TABLES, RunRecords
from millrace.testing.run_plan import BEGAN_MS, DAY_MS
from millrace.testing.run_records import RunPlan, a_run
from millrace.testing.run_tables import a_meta, small_run

RUN = a_run(RunPlan(n_users=40, n_days=2, page_limit=5))


@pytest.mark.parametrize("name", TABLES)
def test_what_was_not_recorded_has_columns_all_the_same(name: str) -> None:
    assert dict(table(small_run(), name).schema) == SCHEMAS[name]


def test_numbers_of_other_widths_are_taken_too() -> None:
    wide = {
        name: RUN[name].with_columns(pl.selectors.integer().cast(pl.Int64), pl.selectors.float().cast(pl.Float64))
        for name in TABLES
    }
    other = RunRecords(RUN.meta, wide)
    assert all(table(other, name).equals(RUN[name]) for name in TABLES)
    assert exposure(other) == exposure(RUN)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(MillraceError, match="has no value, mood"):
        table(RunRecords(RUN.meta, {"sessions": RUN["sessions"].drop("value", "mood")}), "sessions")


def test_a_run_that_kept_no_posts_is_judged_by_what_it_kept() -> None:
    kept = RunRecords(RUN.meta, {name: RUN[name] for name in TABLES if name != "items"})
    got = findings(kept)
    assert got.calibration == ()
    assert got.exposure.n_impressions == 0
    assert got.utility == findings(RUN).utility


def test_people_are_present_from_when_they_joined() -> None:
    users = [
        {"user": 1, "joined_ms": 0, "arm": 1},
        {"user": 2, "joined_ms": BEGAN_MS + DAY_MS},
        {"user": 3, "joined_ms": BEGAN_MS + 2 * DAY_MS},
    ]
    run = small_run(a_meta(n_days=2, arms=("a", "b")), users=users)
    assert viewers(run).select("viewer", "is_new", "days_present").rows() == [(1, False, 2.0), (2, True, 1.0)]
    assert {name: viewers(arm)["viewer"].to_list() for name, arm in by_policy(run).items()} == {"a": [2], "b": [1]}
