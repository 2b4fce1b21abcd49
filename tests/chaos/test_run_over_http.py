"""A simulated run over HTTP beside the run of the same world in process: the same people, and as good a feed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.settings import load_settings
from millrace.app.simulation.http_run import run_over_http, server_home
from millrace.app.simulation.run import RunSpec, run
from millrace.base.errors import ConfigError, FeedClientError
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.judge.utility import Utility, utility
from millrace.simulator.policies import parse_policy
from millrace.simulator.records import RunRecords
from millrace.testing.server_process import ServerProcess

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

WORLD = WorldConfig(size="tiny", history_ms=12 * HOUR_MS)
PATIENT = ("home.deadline_ms=30000", "home.claim_timeout_ms=30000")


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return RunSpec(
        folder=str(tmp_path / "over-http"),
        worlds=str(tmp_path / "worlds"),
        world=WORLD,
        policies=(parse_policy("home"),),
        hours=4,
        regret_frac=0.0,
    )


def a_server(home: Path, *flags: str) -> Iterator[ServerProcess]:
    server = ServerProcess(home, n_workers=2, overrides=PATIENT, flags=flags)
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.kill_all()


@pytest.fixture
def server(spec: RunSpec, tmp_path: Path) -> Iterator[ServerProcess]:
    yield from a_server(server_home(spec, tmp_path / "served").home)


def viewers_of_the_first_hour(records: RunRecords) -> set[int]:
    sessions = records["sessions"]
    first_ms = records.meta.began_ms
    return set(sessions.filter(pl.col("started_ms") < first_ms + HOUR_MS)["viewer"].to_list())


def per_page(found: Utility) -> float:
    return float(found.measures["value"].page.value)


def n_served(home: Path) -> int:
    """Return how many pages left a server, by its log."""
    log = wiring.build_log(load_settings(home))
    consumer = log.subscribe("test", topics=("events.served",), start=log.begin())
    n = 0
    while len(records := consumer.poll(10_000)):
        n += len(records)
    consumer.close()
    log.close()
    return n


def test_people_get_as_much_over_http_as_in_process(spec: RunSpec, server: ServerProcess, tmp_path: Path) -> None:
    here = msgspec.structs.replace(spec, folder=str(tmp_path / "here"))
    n_pages = run_over_http(spec, server.url)
    run(here)
    over_http, in_process = RunRecords.read(Path(spec.folder)), RunRecords.read(Path(here.folder))
    assert n_served(server.home) == n_pages > 10, "it was this server that they used"
    ours, theirs = utility(over_http), utility(in_process)
    # Whoever comes at first, comes to either; how soon they come back hangs on what they got.
    assert viewers_of_the_first_hour(over_http) == viewers_of_the_first_hour(in_process)
    assert ours.n_impressions == pytest.approx(theirs.n_impressions, rel=0.25)
    assert per_page(ours) == pytest.approx(per_page(theirs), abs=0.3)


def test_a_server_has_one_policy_and_virtual_time(spec: RunSpec, tmp_path: Path) -> None:
    two = msgspec.structs.replace(spec, policies=(parse_policy("home"), parse_policy("random")))
    with pytest.raises(ConfigError, match="a server has the policy that it was started with"):
        run_over_http(two, "http://127.0.0.1:9")
    for server in a_server(make_home(tmp_path / "real")[0].home):
        with pytest.raises(FeedClientError, match="is on real time"):
            run_over_http(spec, server.url)
