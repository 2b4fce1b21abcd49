"""A real server in virtual time: ticks move it, kills do not, and pages are as old as the world says."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from millrace.app.feed_client import HttpFeedClient
from millrace.app.settings import Settings
from millrace.app.wiring import build_event_clock
from millrace.base.errors import FeedClientError
from millrace.events.codec import EventCodec
from millrace.events.registry import EventRegistry
from millrace.simulator.client import Page, PageRequest
from millrace.testing.builders import a_follow, a_post_created
from millrace.testing.server_process import ServerProcess, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

HOUR_MS = 3_600_000
START_MS = 1_500_000_000_000
"""The summer of 2017: no clock of this machine says so."""

N_AUTHORS = 12


@pytest.fixture
def server(settings: Settings, n_workers: int, overrides: tuple[str, ...]) -> Iterator[ServerProcess]:
    patient = (*overrides, "home.deadline_ms=30000")
    server = ServerProcess(settings.home, n_workers=n_workers, overrides=patient, flags=("--virtual-time",))
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.kill_all()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[HttpFeedClient]:
    client = HttpFeedClient(server.url, EventCodec(EventRegistry()), n_connections=3)
    yield client
    client.close()


def a_page(client: HttpFeedClient, name: str) -> Page:
    (page,) = client.pages([PageRequest(viewer_id="vera", request_id=name, now_ms=client.now_ms, limit=5)])
    return page


def as_json(server: ServerProcess, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:
        return json.loads(answer.read()), answer.headers


def fill(client: HttpFeedClient) -> None:
    """A history before the first tick, and a post an hour later."""
    authors = [f"a{n}" for n in range(N_AUTHORS)]
    client.send([a_follow("vera", author, at_ms=START_MS - HOUR_MS) for author in authors])
    client.send(
        [
            a_post_created(f"p-{author}", author, text=f"text {n}", at_ms=START_MS - n * 1_000)
            for n, author in enumerate(authors)
        ]
    )
    client.advance(START_MS)
    client.send([a_post_created("p-late", "a0", text="late", at_ms=START_MS + HOUR_MS)])
    assert client.now_ms == START_MS + HOUR_MS
    client.advance(START_MS + HOUR_MS - 1)  # less than what was sent already: nothing goes back
    assert client.now_ms == START_MS + HOUR_MS
    client.advance(START_MS + 2 * HOUR_MS)


def test_pages_live_in_the_time_that_ticks_tell(server: ServerProcess, client: HttpFeedClient) -> None:
    fill(client)
    page = a_page(client, "first")
    assert len(page.post_ids) == 5
    assert page.n_outcomes == 0
    assert page.served_request_id
    told, headers = as_json(server, "/api/v1/timeline/home?viewer=wim&limit=20")
    assert told["generated_at"].startswith("2017-07-14T04:40:00")
    assert int(headers["X-Millrace-Now"]) == START_MS + 2 * HOUR_MS
    by_id = {post["post_id"]: post for post in told["posts"]}
    assert by_id["p-late"]["created_at_ms"] == START_MS + HOUR_MS
    # Two days on, all of it is too old for any page; nobody waited for that.
    client.advance(START_MS + 60 * HOUR_MS)
    assert a_page(client, "later").post_ids == ()
    with pytest.raises(FeedClientError, match="never goes back"):
        client.advance(START_MS)


def test_a_kill_of_everything_does_not_move_virtual_time(
    server: ServerProcess, client: HttpFeedClient, settings: Settings, n_workers: int
) -> None:
    fill(client)
    now_ms = START_MS + 2 * HOUR_MS
    seen = set(a_page(client, "before").post_ids)
    for child in server.children():
        child.kill()
    until(lambda: len(server.children()) == 1 + n_workers, 90)
    server.wait_ready()
    found, _ = as_json(server, "/readyz")
    assert (found["now_ms"], found["is_time_virtual"]) == (now_ms, True)
    after = a_page(client, "after")
    assert len(after.post_ids) == 5
    assert not seen & set(after.post_ids), "claims go by the same time"
    client.advance(now_ms + 1)  # every connection was cut, and each is followed up again
    server.kill_all()
    assert build_event_clock(settings).now_ms() == now_ms + 1
    server.restart()
    assert as_json(server, "/readyz")[0]["now_ms"] == now_ms + 1
    assert server.stop() == 0
    server.restart()  # from the keeper's last checkpoint: no tick is folded any more
    assert as_json(server, "/readyz")[0]["now_ms"] == now_ms + 1
    assert "virtual time" in (settings.home / "server.log").read_text()
