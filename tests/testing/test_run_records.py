from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from millrace.simulator.judge.regret import STAGES
from millrace.simulator.judge.tables import SCHEMAS
from millrace.simulator.records import TABLES, RunRecords
from millrace.testing.run_records import RunPlan, a_run, write_run
from millrace.testing.run_tables import a_table_of

PLAN = RunPlan(n_users=30, n_days=2, page_limit=5)


@pytest.mark.parametrize("name", TABLES)
def test_made_up_tables_have_the_schema_of_the_records(name: str) -> None:
    run = a_run(PLAN)
    assert dict(run[name].schema) == SCHEMAS[name]
    assert dict(a_table_of(name, []).schema) == SCHEMAS[name]
    assert not run[name].is_empty()


def test_a_run_that_is_written_is_read_again(tmp_path: Path) -> None:
    write_run(tmp_path, PLAN)
    read, made = RunRecords.read(tmp_path), a_run(PLAN)
    assert read.meta == made.meta
    assert all(read[name].equals(made[name]) for name in TABLES)


def test_the_seed_makes_the_world_and_the_feeds_seed_what_is_served() -> None:
    one, other = a_run(PLAN), a_run(RunPlan(n_users=30, n_days=2, page_limit=5, feed_seed=1))
    assert one["users"].equals(other["users"])
    assert one["posts"].equals(other["posts"])
    assert one["items"]["post"].to_list() != other["items"]["post"].to_list()


def test_pages_are_the_sums_of_their_posts() -> None:
    run = a_run(PLAN)
    items = run["items"]
    value = np.bincount(items["page"].to_numpy(), (items["examine"] * items["value"]).to_numpy())
    assert np.allclose(value, run["pages"]["value"].to_numpy(), rtol=1e-5)
    assert items["is_examined"].sum() == run["pages"]["n_examined"].sum()
    assert (items["age_ms"] >= 0).all()
    assert run["sessions"]["value"].sum() == pytest.approx(run["pages"]["value"].sum())


def test_a_planted_loss_must_name_a_stage() -> None:
    with pytest.raises(KeyError):
        a_run(RunPlan(n_users=30, n_days=2, stage_loss_frac={"rankin": 0.1}))
    assert set(STAGES) == {"retrieval", "filters", "pre-ranking", "ranking", "re-ranking"}
