"""What the page tells of the models: which serve, how far a training is, and who predicted a post."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.model_publishing import promote
from millrace.app.settings import Settings
from millrace.app.training_status import telling
from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import schema_hash
from millrace.registry.manifest import Description
from millrace.testing.progress import in_silence
from millrace.testing.server_process import PATIENCE_S, PATIENT, ServerProcess, until

pytest.importorskip("playwright.sync_api")
pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


@pytest.fixture
def server(settings: Settings) -> Iterator[ServerProcess]:
    server = ServerProcess(settings.home, n_workers=1, overrides=PATIENT)
    try:
        server.wait_ready()
        payloads: list[dict[str, Any]] = [
            {"type": "PostCreated", "post_id": f"p{n}", "author_id": "ada", "text": f"mill {n}"} for n in range(3)
        ]
        payloads += [{"type": "FollowChanged", "follower_id": "vera", "followee_id": "ada"}]
        answer = server.get("/api/v1/events", json.dumps([{"payload": payload} for payload in payloads]).encode())
        assert json.loads(answer)["n_accepted"] == len(payloads)
        until(lambda: len(page_of(server)["posts"]) == 3, PATIENCE_S)
        yield server
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill_all()


_NUMBERS = itertools.count()


def page_of(server: ServerProcess) -> Any:
    """The page of somebody who has had no post yet."""
    return json.loads(server.get(f"/api/v1/timeline/home?viewer=w{next(_NUMBERS)}&debug=true"))


@pytest.fixture
def page(server: ServerProcess, new_page: Callable[[], Any]) -> Any:
    page = new_page()
    page.goto(f"{server.url}/?viewer=vera")
    page.wait_for_selector(".card")
    return page


def promoted(settings: Settings, folder: Path) -> str:
    """Let a ranker of random weights serve; return its version."""
    from millrace.testing.small_rankers import export_small_ranker

    export_small_ranker(folder)
    said = Description(kind="ranker", feature_schema_hash=schema_hash(ActionSpace()), from_ms=0, until_ms=1)
    version = wiring.build_registry(settings).publish(folder, said, now_ms=1).version
    promote(settings, {"ranker": version}, "test")
    return version


def who_did(page: Any) -> list[str]:
    """Ask why of the first post; return what the panel says of models."""
    page.click(".card >> nth=0 >> [data-act=why]")
    page.wait_for_selector("#panel .why")
    said = page.locator("#panel .who-did").all_inner_texts()
    page.click("#panel-close")
    return [str(text) for text in said]


def test_the_page_tells_of_training_of_what_serves_and_of_who_predicted(
    page: Any, server: ServerProcess, settings: Settings, tmp_path: Path
) -> None:
    page.wait_for_selector("#model-status:has-text('models: none, counters rank')")
    assert who_did(page) == [
        "Nothing was cut: no learned pre-ranker serves",
        "Predicted by counters: no learned ranker serves",
    ]
    with telling(settings, in_silence, every_s=0.0) as show, show("training the ranker (steps)") as step:
        step.total(100)
        step.advance(43)
        page.reload()
        page.wait_for_selector("#model-status:has-text('models: training, ranker 43 %')")
        step.advance(1)
        page.wait_for_selector("#model-status:has-text('models: training, ranker 44 %')")
    version = promoted(settings, tmp_path / "ranker")
    # The line follows by itself; pages do as soon as the worker has swapped.
    page.wait_for_selector(f"#model-status:has-text('models: ranker {version} serves since ')")
    until(lambda: page_of(server)["debug_info"]["models"] == {"ranker": version}, PATIENCE_S)
    page.goto(f"{server.url}/?viewer=xena")  # who has not had the posts yet
    page.wait_for_selector(".card")
    assert who_did(page)[-1] == f"Predicted by the learned ranker {version}"
    page.click("#how")
    page.wait_for_selector("#panel .made")
    assert f"Predicted by the learned ranker {version}" in page.inner_text("#panel .made")
