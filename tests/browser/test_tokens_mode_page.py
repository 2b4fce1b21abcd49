"""The page in tokens mode: nobody picks a viewer, and an API key is no way in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.settings import Settings, load_settings
from millrace.testing.server_process import PATIENCE_S, PATIENT, ServerProcess, until

pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Settings]]:
    settings, _ = make_home(tmp_path_factory.mktemp("tokens") / "home")
    server = ServerProcess(settings.home, n_workers=1, overrides=(*PATIENT, "auth.mode=tokens"))
    try:
        server.wait_ready()
        yield server, load_settings(settings.home, overrides=[("auth.mode", "tokens")])
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill_all()


@pytest.fixture
def page(server: tuple[ServerProcess, Settings], new_page: Callable[[], Any]) -> Any:
    page = new_page()
    page.goto(server[0].url)
    return page


def paste(page: Any, credential: str) -> None:
    page.fill("#token", credential)
    page.click("#token-form button")


def status_is(page: Any, text: str) -> None:
    until(lambda: text in page.inner_text("#status"), PATIENCE_S)


def out(page: Any) -> bool:
    """Whether a token is asked for, and none is kept."""
    kept = page.evaluate("sessionStorage.getItem('millrace-token')")
    return page.is_visible("#token") and not page.is_visible("#leave") and kept is None


def nothing_to_pick(page: Any) -> bool:
    return not any(page.is_visible(selector) for selector in ("#mode", "#viewer", "#viewer-label"))


def test_an_admin_key_is_said_to_be_no_token_and_opens_nothing(
    page: Any, server: tuple[ServerProcess, Settings]
) -> None:
    status_is(page, "Paste your token")
    assert nothing_to_pick(page)
    paste(page, wiring.build_api_keys(server[1]).add("ada", "admin", 0))
    status_is(page, "That is an API key, not a viewer's token.")
    assert page.locator(".card").count() == 0
    page.reload()
    status_is(page, "Paste your token")
    assert nothing_to_pick(page)
    assert out(page)


@pytest.mark.parametrize("text", ["some words", "a.b.c", "x.e30.y"])
def test_what_is_no_token_is_said_to_be_none_and_not_kept(page: Any, text: str) -> None:
    paste(page, text)
    status_is(page, "That is not a viewer's token")
    assert "bad" in page.get_attribute("#status", "class")
    assert out(page)
    page.reload()
    status_is(page, "Paste your token")
    assert out(page)


def test_a_viewers_token_opens_the_viewers_feed_until_one_leaves(
    page: Any, server: tuple[ServerProcess, Settings]
) -> None:
    paste(page, wiring.build_tokens(server[1]).make("vic", 3_600))
    status_is(page, "Nothing to show yet.")
    assert nothing_to_pick(page)
    for _ in range(2):
        assert page.inner_text("#whose") == "Feed of vic"
        assert not page.is_visible("#token")
        page.reload()
        status_is(page, "Nothing to show yet.")
    page.click("#leave")
    status_is(page, "Paste your token")
    assert out(page)
    page.reload()
    status_is(page, "Paste your token")
    assert out(page)


def test_a_token_that_the_server_refuses_is_dropped_and_another_can_be_pasted(
    page: Any, server: tuple[ServerProcess, Settings]
) -> None:
    token = wiring.build_tokens(server[1]).make("vic", 3_600)
    paste(page, token[:-6] + ("A" if token[-6] != "A" else "B") * 6)
    until(lambda: page.is_visible("#token") and "bad" in page.get_attribute("#status", "class"), PATIENCE_S)
    assert page.inner_text("#status") != ""
    assert out(page)
    paste(page, token)
    status_is(page, "Nothing to show yet.")
