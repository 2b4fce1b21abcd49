"""One Chromium for the tests of a module; a page that a test opens shares nothing with those of others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from millrace.testing.server_process import PATIENCE_S

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
def browser() -> Iterator[Any]:
    # Of a module and not of the session: while Playwright runs, other modules' tests could not run an event loop.
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: install the package 'chromium'")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[[], Any]]:
    """Return a function that opens a page without a past: cookies and storage are its own."""
    opened: list[Any] = []

    def open_one() -> Any:
        opened.append(browser.new_page(viewport={"width": 1100, "height": 900}))
        opened[-1].set_default_timeout(1_000 * PATIENCE_S)
        return opened[-1]

    yield open_one
    for page in opened:
        page.close()
