"""The API page in a real browser: it renders, names every endpoint, and fetches nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.app.commands.init import make_home
from millrace.testing.server_process import ServerProcess

pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings, _ = make_home(tmp_path_factory.mktemp("browser") / "home")
    server = ServerProcess(settings.home, n_workers=1)
    try:
        server.wait_ready()
        yield server
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill_all()


def test_the_api_page_shows_every_endpoint_and_loads_nothing_from_elsewhere(
    new_page: Callable[[], Any], server: ServerProcess, tmp_path: Path
) -> None:
    requested: list[str] = []
    problems: list[str] = []
    page = new_page()
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.url + "/schema")
    text = page.inner_text("body")
    page.screenshot(path=tmp_path / "schema.png", full_page=True)
    for path in ("/api/v1/timeline/home", "/api/v1/events", "/healthz", "/readyz", "/metrics"):
        assert path in text
    assert problems == []
    assert [url for url in requested if not url.startswith(server.url)] == []
