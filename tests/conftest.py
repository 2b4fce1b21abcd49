"""What all tests share: the public data sets, Redis and PostgreSQL of the run's own, homes fed with whole worlds."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from millrace.events.envelope import AnyEvent
    from millrace.mixer.feed import FeedResponse
    from millrace.mixer.feed_state import FeedState
    from millrace.testing.page_rules import PageRules

_SCHEMA_NUMBERS = itertools.count(1)

# Collecting imports everything, and all of that stays: to look through it for rubbish again and again is a third of it.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for rubbish from now on, and among what tests make alone."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Let everything go in the end: libraries would tell of what is still held."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips into failures where MILLRACE_REQUIRE is set: CI has every service, data set and browser."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("MILLRACE_REQUIRE"):
        report.outcome = "failed"
        report.longrepr = f"skipped although MILLRACE_REQUIRE is set: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what may take longest, so that processes side by side end together; else the drawn order stays."""
    items.sort(key=_allowed_s, reverse=True)


def _allowed_s(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return 0.0 if mark is None else float(mark.args[0])


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder that MILLRACE_DATA names; without it the test is skipped."""
    value = os.environ.get("MILLRACE_DATA", "")
    if not value:
        pytest.skip("MILLRACE_DATA is not set: the public data sets are not part of the project")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"MILLRACE_DATA names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Redis server for this run alone, on a free port and without files, and return its URL.

    Where there is no ``redis-server`` program the test is skipped.
    """
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    folder = tmp_path_factory.mktemp("redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    messages = folder / "redis.log"
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no"]
    with messages.open("wb") as output:
        server = subprocess.Popen([program, *options], stdout=output, stderr=output)
    try:
        deadline_s = time.monotonic() + 60
        while not _answers_ping(port):
            # A port that somebody else took in between shows as a server that ended.
            if server.poll() is not None or time.monotonic() > deadline_s:
                pytest.fail(f"redis-server on port {port} does not answer:\n{messages.read_text()}")
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a PostgreSQL server for this run alone, on a free port and without care for its files; return its URL.

    All tests of a process share its one database: `fresh_postgres_url` is for one test alone. Where PostgreSQL's
    programs are missing the test is skipped.
    """
    from millrace.testing.postgres_server import PostgresServer, find_programs

    if find_programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with PostgresServer() as server:
        yield server.url


@pytest.fixture
def fresh_postgres_url(postgres_url: str) -> Iterator[str]:
    """Return the URL of an empty schema of one test's own: unqualified names are made and looked for there alone."""
    import psycopg

    name = f"test_{next(_SCHEMA_NUMBERS)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        yield f"{postgres_url}?options=-csearch_path%3D{name}"
        connection.execute(f"DROP SCHEMA {name} CASCADE")


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


@dataclass(frozen=True)
class ServedWorld:
    """A home into which events were taken through the door, with the real home feed over it."""

    rules: PageRules
    state: FeedState
    n_events: int
    refusals: list[str]
    page: Callable[[str], FeedResponse]
    hear: Callable[[Iterable[AnyEvent]], None]


FeedHome = Callable[["Iterable[AnyEvent]", int], ServedWorld]


@pytest.fixture(scope="module")
def feed_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedHome]:
    """Return a function that takes events in at one moment and serves pages at the same moment."""
    # Imported here: this file is read for every test, and few need a whole home.
    from millrace.app import wiring
    from millrace.app.intake import Intake, batches
    from millrace.app.settings import MillraceConfig, Settings
    from millrace.base.clock import ManualClock
    from millrace.mixer.config import HomeConfig
    from millrace.mixer.feed import FeedRequest
    from millrace.stores.claims import MemoryClaims
    from millrace.testing.page_rules import PageRules

    with ExitStack() as stack:

        def build(events: Iterable[AnyEvent], now_ms: int) -> ServedWorld:
            # A busy test machine must not decide what is on a page: generous deadlines, and failures are raised.
            home = HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000, is_strict=True)
            settings = Settings(tmp_path_factory.mktemp("home"), MillraceConfig(home=home))
            clock = ManualClock(now_ms)
            rules = PageRules(now_ms)
            with Intake(settings, clock) as intake:
                for batch in batches(rules.hearing(events)):
                    intake.take(batch)
            log = wiring.build_log(settings, clock)
            stack.callback(log.close)
            replica = wiring.build_replica(settings, log, clock=clock)
            stack.callback(replica.close)
            replica.catch_up()
            service = wiring.build_feed_service(settings, replica, claims=MemoryClaims(), clock=clock)
            runner = stack.enter_context(asyncio.Runner())

            requests = itertools.count(1)

            def page(viewer_id: str) -> FeedResponse:
                request_id = f"r-{viewer_id}-{next(requests)}"
                return runner.run(service.home(FeedRequest(viewer_id=viewer_id, request_id=request_id)))

            def hear(more: Iterable[AnyEvent]) -> None:
                with Intake(settings, clock) as door:
                    for batch in batches(rules.hearing(more)):
                        door.take(batch)
                    assert door.refusals == []
                replica.catch_up()

            return ServedWorld(rules, replica.state, intake.n_accepted, intake.refusals, page, hear)

        yield build
