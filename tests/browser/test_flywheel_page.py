"""The page tells how the feed learns: what serves, the last hours, what was decided and why; and keeps it true."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.app.commands.init import make_home
from millrace.app.flywheel_rounds import decision_log
from millrace.app.settings import Settings
from millrace.flywheel.decisions import Decision, HeadMetrics, RuleOutcome
from millrace.testing.server_process import ServerProcess, until

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
HOUR_MS = 3_600_000
NOON_MS = 1_800_014_400_000


def a_decision(number: int, verdict: Any, why: str, auc: float) -> Decision:
    return Decision(
        number=number,
        at_ms=NOON_MS,
        from_ms=NOON_MS + (number - 1) * HOUR_MS,
        until_ms=NOON_MS + number * HOUR_MS,
        verdict=verdict,
        why=why,
        n_pages=1_234,
        n_learned=900,
        n_judged=300,
        from_version=f"v{number}",
        to_version=f"v{number + 1}",
        rules=(
            RuleOutcome(
                name="entropy", value=-0.02, threshold=0.0, is_kept=verdict != "refused", words="entropy <b>lost</b>"
            ),
        ),
        prequential=(HeadMetrics(action="like", n_positive=500, auc=auc, normalised_entropy=0.8, calibration=1.02),),
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = make_home(tmp_path / "home")[0]
    log = decision_log(settings)
    log.append(a_decision(1, "promoted", "surely better on the newest pages", 0.71))
    log.append(a_decision(2, "refused", "the hour looks poisoned: AUC fell by 0.21", 0.5))
    return settings


@pytest.fixture
def server(settings: Settings) -> Iterator[ServerProcess]:
    server = ServerProcess(settings.home, n_workers=1, overrides=("home.deadline_ms=30000",))
    try:
        server.wait_ready()
        follow = {"type": "FollowChanged", "follower_id": "vera", "followee_id": "ada"}
        server.get("/api/v1/events", json.dumps([{"payload": follow}]).encode())
        until(lambda: b"vera" in server.get("/api/v1/viewers"), 30)
        yield server
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill_all()


@pytest.fixture
def page(server: ServerProcess) -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: install the package 'chromium'")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.goto(f"{server.url}/?viewer=vera")
        page.wait_for_selector("#flywheel:visible")
        yield page
        browser.close()


def test_the_last_rounds_are_told_with_their_reasons_and_new_ones_come_in(page: Any, settings: Settings) -> None:
    page.click("#flywheel")
    page.wait_for_selector("#decisions")
    assert page.inner_text("#live-version") == "no ranker: counters rank"
    summaries = page.locator("#decisions summary").all_inner_texts()
    assert [text.split()[0] for text in summaries] == ["refused", "promoted"]
    assert "the hour looks poisoned: AUC fell by 0.21" in summaries[0]
    assert "AUC 0.5" in page.inner_text(".sparks")
    assert page.locator(".spark svg").count() == 3
    page.click("#decisions details >> nth=0")
    assert "entropy <b>lost</b>" in page.inner_text("#decisions details >> nth=0")
    decision_log(settings).append(a_decision(3, "promoted", "better again", 0.74))
    playwright.expect(page.locator("#decisions details")).to_have_count(3, timeout=20_000)
    assert page.locator("#decisions details[open]").count() == 1
    assert "AUC 0.74" in page.inner_text(".sparks")
