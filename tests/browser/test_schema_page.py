"""The API page in a real browser: it renders, names every endpoint, and fetches nothing from anywhere else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.app.commands.init import make_home
from millrace.testing.server_process import ServerProcess

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: install the package 'chromium'")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings, _ = make_home(tmp_path_factory.mktemp("browser") / "home")
    server = ServerProcess(settings.home, n_workers=1)
    server.wait_ready()
    yield server
    assert server.stop() == 0


def test_the_api_page_shows_every_endpoint_and_loads_nothing_from_elsewhere(
    chromium: str, server: ServerProcess, tmp_path: Path
) -> None:
    requested: list[str] = []
    problems: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url + "/schema")
        text = page.inner_text("body")
        page.screenshot(path=tmp_path / "schema.png", full_page=True)
        browser.close()
    for path in ("/api/v1/timeline/home", "/api/v1/events", "/healthz", "/readyz", "/metrics"):
        assert path in text
    assert problems == []
    assert [url for url in requested if not url.startswith(server.url)] == []
