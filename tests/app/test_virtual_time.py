"""Virtual time: who may have it, what moves it, and that real time is not moved by anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from millrace.app import wiring
from millrace.app.backup import make_backup, restore_backup
from millrace.app.commands.init import make_home
from millrace.app.commands.page import made_at_ms
from millrace.app.doctor import examine
from millrace.app.local_feed import folded_replica, serve_page
from millrace.app.settings import Settings, load_settings
from millrace.app.supervisor import serve
from millrace.app.virtual_time import enter_virtual_time, has_virtual_time, newest_tick_ms, tick_rule
from millrace.base.clock import ManualClock, SystemClock, VirtualClock
from millrace.base.errors import ConfigError
from millrace.stream.collector import Collector
from millrace.stream.dead_letters import replay_dead_letters
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import a_clock_tick, a_follow, a_post_created
from millrace.testing.server_process import until

T_MS = 1_500_000_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


@pytest.fixture
def virtual(settings: Settings) -> Settings:
    enter_virtual_time(settings)
    return settings


def take_in(settings: Settings, *events: Any) -> None:
    clock = wiring.build_event_clock(settings)
    log = wiring.build_log(settings, clock)
    assert wiring.build_collector(settings, log, wiring.build_codec(settings), clock).submit(events).n_refused == 0
    log.close()


@pytest.mark.parametrize(
    ("key", "value"), [("server.host", "0.0.0.0"), ("server.host", "192.168.1.7"), ("auth.mode", "tokens")]
)
def test_virtual_time_is_for_programs_of_this_machine(settings: Settings, key: str, value: str) -> None:
    open_to_others = load_settings(settings.home, overrides=[(key, value)])
    with pytest.raises(ConfigError, match=key):
        enter_virtual_time(open_to_others)
    assert not has_virtual_time(settings)
    enter_virtual_time(settings)
    with pytest.raises(ConfigError, match=key):
        serve(open_to_others)


def test_a_home_remembers_its_time(virtual: Settings, tmp_path: Path) -> None:
    take_in(virtual, a_post_created(at_ms=T_MS - 5), a_clock_tick(T_MS))
    clock = wiring.build_event_clock(virtual)
    assert isinstance(clock, VirtualClock)
    assert clock.now_ms() == T_MS
    make_backup(virtual, tmp_path / "backup")
    other, _ = make_home(tmp_path / "other")
    restore_backup(other, tmp_path / "backup")
    assert wiring.build_event_clock(other).now_ms() == T_MS
    assert isinstance(wiring.build_event_clock(make_home(tmp_path / "real")[0]), SystemClock)


def test_appends_are_stamped_with_virtual_time_from_the_first_tick_on(virtual: Settings) -> None:
    take_in(virtual, a_post_created("p1", at_ms=T_MS - 5))
    take_in(virtual, a_clock_tick(T_MS))
    take_in(virtual, a_post_created("p2", at_ms=T_MS + 7))
    with folded_replica(virtual) as replica:
        records = replica.log.subscribe("test", start=replica.log.begin()).poll(10)
        assert records.appended_ms[-1] == T_MS
        assert min(records.appended_ms[:2]) > T_MS, "history is bounded by real time"
        assert replica.clock.now_ms() == T_MS


def test_before_the_first_tick_it_is_as_late_as_the_events(virtual: Settings) -> None:
    take_in(virtual, *(a_post_created(f"p{n}", at_ms=T_MS + n) for n in range(3)))
    with folded_replica(virtual) as replica:
        assert replica.clock.now_ms() == T_MS + 2


def test_the_newest_tick_is_found_from_the_end_however_far_it_is(settings: Settings) -> None:
    codec, clock = wiring.build_codec(settings), ManualClock(T_MS)
    log = MemoryLog(clock)
    door = Collector(log, codec, clock)
    assert newest_tick_ms(log, codec) == 0
    door.submit([a_clock_tick(T_MS - 9, event_id="t1"), a_clock_tick(T_MS - 1, event_id="t2")])
    for start in range(0, 9_000, 3_000):
        door.submit([a_post_created(f"p{n}", at_ms=T_MS) for n in range(start, start + 3_000)])
    assert newest_tick_ms(log, codec) == T_MS - 1


def test_a_page_without_a_server_is_of_the_homes_time(virtual: Settings) -> None:
    take_in(virtual, a_post_created("p1", "ada", at_ms=T_MS), a_follow("vera", "ada", at_ms=T_MS))
    take_in(virtual, a_clock_tick(T_MS + 60_000))
    page = serve_page(virtual, "vera", 5).page
    assert [post.post_id for post in page.posts] == ["p1"]
    assert made_at_ms(page) == T_MS + 60_000
    with folded_replica(virtual) as replica:
        consumer = replica.log.subscribe("test", topics=("events.served",), start=replica.log.begin())
        (served,) = consumer.poll(10).data
        consumer.close()
    assert wiring.build_codec(virtual).decode(served).event_time_ms == T_MS + 60_000


@pytest.mark.parametrize("is_virtual", [False, True])
def test_doctor_tells_of_virtual_time(settings: Settings, *, is_virtual: bool) -> None:
    if is_virtual:
        enter_virtual_time(settings)
        take_in(settings, a_clock_tick(T_MS))
    found = {finding.check: finding for finding in examine(settings, wiring.build_event_clock(settings))}
    assert ("time" in found) == is_virtual
    assert not [finding for finding in found.values() if finding.verdict == "problem"]
    if is_virtual:
        assert "2017-07-14" in found["time"].detail
        assert found["log"].verdict == "ok", "quiet is counted in the home's own time"


class Worker:
    """One worker's HTTP service in this process, following its log."""

    def __init__(self, settings: Settings) -> None:
        clock = wiring.build_event_clock(settings)
        self.log = wiring.build_log(settings, clock)
        self.replica = wiring.build_replica(settings, self.log, clock=clock)
        app = wiring.build_http_app(settings, self.replica, clock)
        app.on_startup.append(self._follow)
        app.on_shutdown.append(self._stop)
        self.client = TestClient(app, base_url="http://127.0.0.1:8000")

    async def _follow(self) -> None:
        self.replica.restore()
        self.following = asyncio.create_task(self.replica.follow())

    async def _stop(self) -> None:
        self.following.cancel()

    def tick(self, now_ms: int) -> Any:
        answer = self.client.post("/api/v1/events", json={"payload": {"type": "ClockTick", "now_ms": now_ms}})
        return answer.json()["results"][0]

    def ready(self) -> Any:
        return self.client.get("/readyz").json()


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    worker = Worker(settings)
    with worker.client:
        until(lambda: worker.ready()["is_ready"], 90)
        yield worker
    worker.replica.close()
    worker.log.close()


def test_a_tick_moves_virtual_time_forward_only(virtual: Settings, worker: Worker) -> None:
    assert worker.tick(T_MS)["status"] == "accepted"
    until(lambda: worker.ready()["now_ms"] == T_MS, 90)
    assert worker.ready()["is_time_virtual"] is True
    refused = worker.tick(T_MS - 1)
    assert refused["status"] == "refused"
    assert "never goes back" in refused["error"]
    assert worker.client.get("/api/v1/viewers").headers["x-millrace-now"] == str(T_MS)
    assert worker.replica.take_lag_ms() == 0, "stamps and now are of no real clock"


def test_what_stands_behind_a_tick_counts_at_its_own_time(virtual: Settings, worker: Worker) -> None:
    worker.tick(T_MS)
    until(lambda: worker.ready()["now_ms"] == T_MS, 90)
    post = {"type": "PostCreated", "post_id": "p1", "author_id": "ada", "text": "later"}
    worker.client.post(
        "/api/v1/events",
        json=[
            {"payload": {"type": "ClockTick", "now_ms": T_MS + 9}},
            {"event_time_ms": T_MS + 9, "payload": post},
        ],
    )
    until(lambda: worker.ready()["now_ms"] == T_MS + 9, 90)
    assert worker.log.subscribe("test", start=(1,)).poll(9).appended_ms.tolist() == [T_MS + 9, T_MS + 9]


def test_a_tick_moves_nothing_in_real_time(worker: Worker) -> None:
    now_ms = SystemClock().now_ms()
    refused = worker.tick(now_ms + 3_600_000)
    assert refused["status"] == "refused"
    assert "event time is real here" in refused["error"]
    assert worker.tick(T_MS)["status"] == "accepted"
    until(lambda: worker.ready()["lag"] == 0, 90)
    found = worker.ready()
    assert found["is_time_virtual"] is False
    assert abs(found["now_ms"] - SystemClock().now_ms()) < 60_000
    assert abs(int(worker.client.get("/api/v1/viewers").headers["x-millrace-now"]) - now_ms) < 60_000


def test_replaying_does_not_let_a_refused_tick_in(settings: Settings, worker: Worker) -> None:
    assert worker.tick(SystemClock().now_ms() + 3_600_000)["status"] == "refused"
    codec, rule = wiring.build_codec(settings), tick_rule(SystemClock())
    report = replay_dead_letters(worker.log, codec, rule=rule)
    assert not report.replayed
    assert "event time is real here" in report.refused[0][1]


def test_the_api_says_that_it_tells_the_time(worker: Worker) -> None:
    paths = worker.client.get("/schema/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            told = ["X-Millrace-Now" in answer.get("headers", {}) for answer in operation["responses"].values()]
            assert all(told) if path.startswith("/api/") else not any(told), path
