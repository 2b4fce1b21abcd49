"""The page in virtual time: ages and the times of events are the server's, not the browser's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.feed_client import HttpFeedClient
from millrace.app.settings import Settings
from millrace.testing.builders import a_follow, a_post_created
from millrace.testing.server_process import PATIENCE_S, PATIENT, ServerProcess, until

pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

HOUR_MS = 3_600_000
START_MS = 1_500_000_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


@pytest.fixture
def client(settings: Settings) -> Iterator[HttpFeedClient]:
    server = ServerProcess(settings.home, n_workers=1, overrides=PATIENT, flags=("--virtual-time",))
    try:
        server.wait_ready()
        client = HttpFeedClient(server.url, wiring.build_codec(settings), n_connections=1)
        client.send([a_follow("vera", f"a{n}", at_ms=START_MS - HOUR_MS) for n in range(3)])
        client.send([a_post_created(f"p{n}", f"a{n}", text=f"text {n}", at_ms=START_MS) for n in range(3)])
        client.advance(START_MS + 5 * HOUR_MS)
        yield client
        client.close()
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill_all()


@pytest.fixture
def page(client: HttpFeedClient, new_page: Callable[[], Any]) -> Any:
    page = new_page()
    page.goto(f"{client.url}/?viewer=vera")
    page.wait_for_selector(".card")
    return page


def like_times(settings: Settings) -> list[int]:
    log, codec = wiring.build_log(settings), wiring.build_codec(settings)
    consumer = log.subscribe("test", topics=("events.engagement",), start=log.begin())
    found = [codec.decode(data).event_time_ms for data in consumer.poll(100).data]
    consumer.close()
    log.close()
    return found


def test_ages_and_events_go_by_the_servers_time(page: Any, client: HttpFeedClient, settings: Settings) -> None:
    assert set(page.locator(".card .when").all_inner_texts()) == {"5 h"}
    page.wait_for_selector("#world-time:has-text('World time 07:40')")
    assert page.is_visible("#world-note")
    page.click(".card >> nth=0 >> [data-act=like]")
    until(lambda: len(like_times(settings)) == 1, PATIENCE_S)
    client.advance(START_MS + 9 * HOUR_MS)
    # The page hears of it with the next answer, and its next event is as late as that.
    with page.expect_response("**/why/**"):
        page.click(".card >> nth=0 >> [data-act=why]")
    page.wait_for_selector("#panel .why")
    page.click("#panel-close")
    page.click(".card >> nth=1 >> [data-act=like]")
    until(lambda: len(like_times(settings)) == 2, PATIENCE_S)
    first_ms, second_ms = like_times(settings)
    assert 0 <= first_ms - (START_MS + 5 * HOUR_MS) < 120_000
    assert 0 <= second_ms - (START_MS + 9 * HOUR_MS) < 120_000
    assert json.loads(page.request.get(f"{client.url}/readyz").text())["now_ms"] == START_MS + 9 * HOUR_MS
