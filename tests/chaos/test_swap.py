"""A promotion reaches a server that is asked for pages all the time: no request fails, and none goes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")

from millrace.app import wiring
from millrace.app.model_publishing import promote
from millrace.app.settings import Settings
from millrace.base.actions import ActionSpace
from millrace.features.encoding.candidates import schema_hash
from millrace.registry.manifest import Description
from millrace.testing.page_load import PageLoad
from millrace.testing.server_process import ServerProcess, until
from millrace.testing.small_rankers import export_small_ranker

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

N_AUTHORS = 20
N_POSTS = 200
PATIENCE_S = 100.0


@pytest.fixture
def overrides(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Leave pages their time: how fast they are on a busy test machine is not what is tested."""
    return (*overrides, "home.deadline_ms=30000")


def published(settings: Settings, folder: Path, seed: int) -> str:
    export_small_ranker(folder, seed)
    said = Description(kind="ranker", feature_schema_hash=schema_hash(ActionSpace()), from_ms=0, until_ms=1)
    return wiring.build_registry(settings).publish(folder, said, now_ms=seed).version


def test_models_are_swapped_and_no_request_fails(server: ServerProcess, settings: Settings, tmp_path: Path) -> None:
    posts = [
        {"payload": {"type": "PostCreated", "post_id": f"p{i}", "author_id": f"a{i % N_AUTHORS}", "text": f"text {i}"}}
        for i in range(N_POSTS)
    ]
    assert json.loads(server.get("/api/v1/events", json.dumps(posts).encode()))["n_accepted"] == N_POSTS
    first, second = (published(settings, tmp_path / f"ranker{seed}", seed) for seed in (1, 2))
    promote(settings, {"ranker": first}, "first")
    with PageLoad(server, n_connections=4) as load:
        until(lambda: load.serves(first, 3), PATIENCE_S)
        n_before = [len(pages) for pages in load.pages_by_connection]
        promote(settings, {"ranker": second}, "second")
        until(lambda: load.serves(second, 3), PATIENCE_S)
    assert [page for page in load.pages if page.problem] == []
    for pages, n in zip(load.pages_by_connection, n_before, strict=True):
        versions = [page.version for page in pages[n:]]
        assert versions == sorted(versions, key=(first, second).index)
    assert {page.n_posts for page in load.pages if page.version} == {10}
    until(lambda: b'cache_asked_total{cache="posts",result="hit"}' in server.get("/metrics"), PATIENCE_S)
    assert b'millrace_models_total{lane="default",what="refused"}' not in server.get("/metrics")
