"""Whole runs of a tiny world over the real feed: the same bytes however they are made, and what they must show."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from millrace.app import wiring
from millrace.app.settings import load_settings
from millrace.app.simulation.homes import START_MS, world_key
from millrace.app.simulation.run import RunSpec, run, run_home
from millrace.base.clock import ManualClock
from millrace.base.errors import ConfigError
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.policies import FEEDS, Policy
from millrace.simulator.records import RunRecords
from millrace.testing.server_process import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORLD = WorldConfig(size="tiny", n_users=60, history_ms=12 * HOUR_MS)
HOME = Policy(name="home")
HOURS = 4
LESS_BY_GREED = 0.03
"""The oracle's slates are chosen greedily: a larger choice may come out so much worse than a smaller one."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the world's history is kept, so that it is made once."""
    return tmp_path_factory.mktemp("worlds")


def a_spec(worlds: Path, folder: Path, *policies: Policy, **settings: Any) -> RunSpec:
    chosen = {"world": WORLD, "hours": HOURS, "policies": policies or (HOME,)} | settings
    return RunSpec(folder=str(folder), worlds=str(worlds), **chosen)


@pytest.fixture(scope="module")
def whole(worlds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run in one process that nothing interrupted, every page of it held against the oracle."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(a_spec(worlds, folder, regret_frac=1.0))
    return folder


def log_rows(folder: Path) -> list[tuple[object, ...]]:
    """Return every record of a run's log: offset, topic and bytes."""
    settings = load_settings(run_home(folder))
    log = wiring.build_log(settings, ManualClock(START_MS))
    consumer = log.subscribe("test", start=log.begin())
    rows: list[tuple[object, ...]] = []
    while len(batch := consumer.poll(10_000)):
        rows.extend(zip(batch.offsets.tolist(), batch.topics.tolist(), batch.data, strict=True))
    consumer.close()
    log.close()
    return rows


def files(folder: Path) -> dict[str, bytes]:
    """Return what a run left beside the log, by name."""
    paths = [folder / "run.json", *sorted((folder / "records").iterdir())]
    return {path.name: path.read_bytes() for path in paths}


def assert_same(folder: Path, other: Path) -> None:
    assert files(folder).keys() == files(other).keys()
    assert [name for name, data in files(folder).items() if files(other)[name] != data] == []
    assert log_rows(folder) == log_rows(other)


def test_two_processes_leave_the_bytes_of_one(worlds: Path, whole: Path, tmp_path: Path) -> None:
    n_pages = run(a_spec(worlds, tmp_path / "two", regret_frac=1.0), n_processes=2)
    assert n_pages == len(RunRecords.read(whole)["pages"]) > 10
    assert_same(tmp_path / "two", whole)


def test_a_run_that_stopped_and_went_on_leaves_the_bytes_of_one_that_did_not(
    worlds: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "parts"
    for hours, n_processes in ((1, 1), (3, 2), (HOURS, 1)):
        run(a_spec(worlds, folder, regret_frac=1.0, hours=hours), n_processes)
    assert_same(folder, whole)
    assert run(a_spec(worlds, folder, regret_frac=1.0)) == len(RunRecords.read(whole)["pages"])  # nothing left to do
    assert_same(folder, whole)


_CHILD = """
import sys
import msgspec
from millrace.app.simulation.run import RunSpec, run
run(msgspec.json.decode(sys.stdin.buffer.read(), type=RunSpec))
"""


@pytest.mark.chaos
@pytest.mark.parametrize("sign", ["records/pages-000001.parquet", "records/sessions-000002.parquet"])
def test_a_run_that_was_killed_in_the_middle_goes_on_as_if_it_had_not(
    worlds: Path, whole: Path, tmp_path: Path, sign: str
) -> None:
    spec = a_spec(worlds, tmp_path / "killed", regret_frac=1.0)
    child = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(msgspec.json.encode(spec))
    child.stdin.close()
    # Once a slice's first table is there its events are in the log already, and its snapshot is not written yet.
    until(lambda: (tmp_path / "killed" / sign).exists() or child.poll() is not None, timeout_s=300)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    run(spec)
    assert_same(tmp_path / "killed", whole)


def test_a_run_goes_on_from_another_as_that_one_would_have_and_keeps_records_of_its_own(
    worlds: Path, whole: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    n_before = run(a_spec(worlds, first, regret_frac=1.0, hours=3))
    n_pages = run(a_spec(worlds, second, regret_frac=1.0, begins_with=str(first)))
    assert n_pages == len(RunRecords.read(whole)["pages"])
    assert len(RunRecords.read(second)["pages"]) == n_pages - n_before
    assert log_rows(second) == log_rows(whole)


def test_a_run_goes_on_only_from_a_run_of_its_own_world(worlds: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        run(a_spec(worlds, tmp_path / "a", begins_with=str(tmp_path / "nothing")))
    run(a_spec(worlds, tmp_path / "b", hours=1))
    other = msgspec.structs.replace(WORLD, seed=WORLD.seed + 1)
    with pytest.raises(ConfigError, match="is of the world"):
        run(a_spec(worlds, tmp_path / "c", begins_with=str(tmp_path / "b"), world=other))


def test_a_folder_that_holds_another_run_is_refused(worlds: Path, whole: Path) -> None:
    other = a_spec(worlds, whole, regret_frac=1.0, limit=7)
    with pytest.raises(ConfigError, match="holds another run"):
        run(other)


def test_a_run_ends_after_the_slice_in_which_it_has_made_enough_pages(worlds: Path, tmp_path: Path) -> None:
    n_pages = run(a_spec(worlds, tmp_path / "short", max_pages=1, regret_frac=0.0))
    pages = RunRecords.read(tmp_path / "short")["pages"]
    assert n_pages == len(pages) >= 1
    assert pages["slice_ms"].n_unique() == 1


def test_pages_keep_every_rule_of_the_truth_and_nothing_fails(whole: Path) -> None:
    pages = RunRecords.read(whole)["pages"]
    broken = pages.select("n_own", "n_blocked", "n_deleted", "n_repeated", "n_sensitive", "n_outcomes").sum()
    assert set(broken.row(0)) == {0}
    assert (pages["n_items"] > 0).mean() > 0.9  # type: ignore[operator] # sixty people write little: feeds do end


def test_tables_agree_with_each_other(whole: Path) -> None:
    records = RunRecords.read(whole)
    pages, items, sessions = records["pages"], records["items"], records["sessions"]
    assert pages["page"].to_list() == list(range(len(pages)))
    assert sessions["session"].to_list() == list(range(len(sessions)))
    by_page = items.group_by("page", maintain_order=True).agg(
        pl.len().alias("n"),
        (pl.col("value") * pl.col("examine")).sum().alias("value"),
        pl.col("is_examined").sum().alias("looks"),
        pl.col("did").ne(0).sum().alias("acted"),
    )
    both = pages.join(by_page, on="page")
    assert both["n_items"].to_list() == both["n"].to_list()
    assert both["n_examined"].to_list() == both["looks"].to_list()
    assert (both["value_right"] - both["value"]).abs().max() < 1e-4  # type: ignore[operator]
    by_session = pages.group_by("session").agg(pl.len().alias("n"), pl.col("value").sum().alias("sum"))
    both = sessions.join(by_session, on="session")
    assert both["n_pages"].to_list() == both["n"].to_list()
    assert (both["value"] - both["sum"]).abs().max() < 1e-9  # type: ignore[operator]
    assert records.meta.arms == ("home",)
    assert items["post"].max() < len(records["posts"])  # type: ignore[operator]


def test_what_each_stage_costs_is_not_negative_and_adds_up(whole: Path) -> None:
    records = RunRecords.read(whole)
    regret, pages = records["regret"], records["pages"]
    assert len(regret) > 0.9 * len(pages)
    stages = ("best_all", "best_retrieved", "best_filtered", "best_preranked")
    most = regret["best_all"].abs().max()
    for before, after in itertools.pairwise(stages):
        lost = regret[before] - regret[after]
        assert lost.min() > -LESS_BY_GREED * most  # type: ignore[operator]
        assert lost.sum() > -0.01 * regret["best_all"].sum()
    for shown in ("ranked", "served"):
        assert (regret["best_preranked"] - regret[shown]).min() > -LESS_BY_GREED * most  # type: ignore[operator]
    assert (regret["bound_all"] - regret["best_all"]).min() >= 0  # type: ignore[operator]
    served = regret.join(pages.select("page", "value"), on="page")
    assert (served["served"] - served["value"]).abs().max() < 1e-9  # type: ignore[operator]
    assert (regret["n_retrieved"] >= regret["n_filtered"]).all()


@pytest.fixture(scope="module")
def value_by_feed(worlds: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return the true value of a first page under several feeds, each alone in the world."""
    folder, values = tmp_path_factory.mktemp("feeds"), {}
    for feed in ("home", "oracle", "oracle_all", "reversed", "random"):
        run(a_spec(worlds, folder / feed, Policy(name=feed, feed=feed), regret_frac=0.0, keeps_items=False))
        first = RunRecords.read(folder / feed)["pages"].filter(pl.col("page_no") == 0)
        values[feed] = float(first["value"].mean())  # type: ignore[arg-type]
    return values


def test_who_knows_the_truth_serves_better_pages(value_by_feed: dict[str, float]) -> None:
    assert value_by_feed["oracle_all"] >= value_by_feed["oracle"] > value_by_feed["home"]


def test_the_worst_first_is_worse_than_the_feed_as_it_is(value_by_feed: dict[str, float]) -> None:
    assert value_by_feed["reversed"] < value_by_feed["home"]
    assert value_by_feed["random"] < value_by_feed["home"]


def test_every_feed_serves_its_arm(worlds: Path, tmp_path: Path) -> None:
    policies = tuple(Policy(name=f"{feed}!", feed=feed) for feed in FEEDS)
    run(a_spec(worlds, tmp_path / "all", *policies, hours=6, regret_frac=0.3))
    records = RunRecords.read(tmp_path / "all")
    assert records.meta.arms == tuple(f"{feed}!" for feed in FEEDS)
    served = records["pages"].group_by("arm").agg(pl.col("n_items").sum())
    assert len(served) > len(FEEDS) // 2
    assert served["n_items"].min() > 0  # type: ignore[operator]


def test_a_world_is_made_once_and_another_one_has_another_key(worlds: Path, whole: Path) -> None:
    assert [path.name for path in worlds.iterdir()] == [world_key(WORLD)]
    assert world_key(WORLD) != world_key(msgspec.structs.replace(WORLD, seed=2))
