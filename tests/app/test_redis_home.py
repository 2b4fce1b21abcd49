"""A home whose log is on a Redis server: events by the door, a page, a checkpoint, and the tools around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from millrace.app import wiring
from millrace.app.backup import make_backup
from millrace.app.commands.init import make_home
from millrace.app.doctor import examine
from millrace.app.keeper_process import open_keeper
from millrace.app.settings import CONFIG_NAME, Settings
from millrace.base.clock import SystemClock
from millrace.stores.checkpoint import ForeignCheckpointError
from millrace.testing.server_process import Connection, ServerProcess, until

pytestmark = [pytest.mark.service, pytest.mark.timeout(600)]


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    (tmp_path / CONFIG_NAME).write_text(
        f'[log]\nbackend = "redis"\n[log.redis]\nurl = "{redis_url}"\nprefix = "{tmp_path.name}"\n'
        "requires_fsync = false\n[home]\ndeadline_ms = 20_000\nclaim_timeout_ms = 20_000\n"
    )
    return make_home(tmp_path)[0]


@pytest.fixture
def server(settings: Settings) -> Iterator[ServerProcess]:
    server = ServerProcess(settings.home, n_workers=1)
    try:
        server.wait_ready(400)  # it may have to compile its kernels
        yield server
    finally:
        server.kill_all()


EVENTS = [
    {
        "event_id": f"create-{i}",
        "payload": {"type": "PostCreated", "post_id": f"p{i}", "author_id": "ann", "text": "hi"},
    }
    for i in range(5)
] + [{"event_id": "f", "payload": {"type": "FollowChanged", "follower_id": "bob", "followee_id": "ann"}}]


def test_a_server_takes_events_serves_a_page_and_goes_on_after_a_crash(
    server: ServerProcess, settings: Settings
) -> None:
    with Connection(server) as connection:
        receipt = connection.get("/api/v1/events", EVENTS)
        assert receipt["n_accepted"] == 6
        offset = sum(receipt["state_offset"])
        until(lambda: sum(connection.get("/readyz")["state_offset"]) >= offset, 90)
        page = connection.get("/api/v1/timeline/home?viewer=bob")
        first = {post["post_id"] for post in page["posts"]}
        assert len(first) == 3  # of one author, no more (page.max_per_author)
        assert connection.get("/api/v1/events", EVENTS)["n_duplicates"] == 6
    log = wiring.build_log(settings)
    served = log.subscribe("test", topics=["events.served"], start=(0,))
    until(lambda: len(served.poll(10)), 90)
    server.kill_all()
    assert log.end()[0] > 6
    assert not settings.log_path.exists()
    server.restart()
    with Connection(server) as connection:
        assert sum(connection.get("/readyz")["state_offset"]) >= offset
        page = connection.get("/api/v1/timeline/home?viewer=bob")
        assert {post["post_id"] for post in page["posts"]} == {f"p{i}" for i in range(5)} - first
    log.close()


def take(settings: Settings) -> None:
    log = wiring.build_log(settings)
    collector = wiring.build_collector(settings, log, wiring.build_codec(settings))
    assert collector.submit_json([json.dumps(event).encode() for event in EVENTS], "test").n_accepted == 6
    log.close()


def test_a_keeper_keeps_what_is_on_redis_and_the_tools_around_it_read_it(settings: Settings, tmp_path: Path) -> None:
    take(settings)
    keeper = open_keeper(settings)
    keeper.start()
    keeper.stop()
    log = wiring.build_log(settings)
    replica = wiring.build_replica(settings, log, has_content_reads=False)
    checkpoint = replica.restore()
    assert checkpoint is not None
    assert replica.position == log.end() == (6,)  # by the checkpoint alone: nothing has been caught up
    replica.close()
    log.close()
    assert make_backup(settings, tmp_path / "copy").log_end == 6
    detail = {finding.check: finding.detail for finding in examine(settings, SystemClock())}
    assert detail["log"].startswith("6 records kept of 6, on redis")
    assert "good" in detail["checkpoints"]


def test_checkpoints_of_one_log_are_not_used_with_another(settings: Settings) -> None:
    take(settings)
    keeper = open_keeper(settings)
    keeper.start()
    keeper.stop()
    log = settings.config.log
    other = msgspec.structs.replace(log, redis=msgspec.structs.replace(log.redis, prefix="another"))
    elsewhere = Settings(settings.home, msgspec.structs.replace(settings.config, log=other))
    take(elsewhere)  # as long, so that the checkpoint is not refused for being ahead of it
    another = wiring.build_log(elsewhere)
    replica = wiring.build_replica(elsewhere, another, has_content_reads=False)
    with pytest.raises(ForeignCheckpointError, match="belongs to another log"):
        replica.restore()
    replica.close()
    another.close()
