"""An edit of the home's file reaches every worker of a running server, and a wrong one reaches none."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from millrace.app.settings import CONFIG_NAME, Settings
from millrace.testing.server_process import ServerProcess, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

HOME = "/api/v1/timeline/home"


def like_weight_of(server: ServerProcess) -> Callable[[], float]:
    """Return what asks for one more viewer's page and tells the weight of P(like) in it."""
    n_asked = iter(range(100_000))

    def ask() -> float:
        page = json.loads(server.get(f"{HOME}?viewer=v{next(n_asked)}"))
        return round(page["posts"][0]["why"]["actions"]["like"]["weight"], 6)

    return ask


def test_an_edit_reaches_every_worker_and_those_started_after_it(server: ServerProcess, settings: Settings) -> None:
    post = {"type": "PostCreated", "post_id": "p1", "author_id": "ada", "text": "The wheel turns."}
    answer = json.loads(server.get("/api/v1/events", json.dumps([{"payload": post}]).encode()))
    assert answer["n_accepted"] == 1
    weight = like_weight_of(server)
    until(lambda: json.loads(server.get(f"{HOME}?viewer=early"))["posts"], 30)

    def agree(wanted: float) -> bool:  # each request is a connection of its own, to whichever worker takes it
        return {weight() for _ in range(16)} == {wanted}

    assert agree(0.5)
    file = settings.home / CONFIG_NAME
    file.write_text('[params]\n"value.weight_like" = 0.75\n')
    until(lambda: agree(0.75), 10)
    file.write_text('[params]\n"value.weight_like" = -1.0\n')
    until(lambda: b"millrace_params_rejected 1.0" in server.get("/metrics"), 10)
    assert agree(0.75)
    assert "param value.weight_like -1.0: out of bounds" in (settings.home / "server.log").read_text()
    file.write_text("[home]\nvalue_profile = 'classic'\n")
    until(lambda: agree(0.2), 10)
    until(lambda: b"millrace_params_rejected 0.0" in server.get("/metrics"), 10)
    keeper_and_workers = server.children()
    for worker in keeper_and_workers[1:]:
        worker.kill()
    until(server.is_ready, 60)
    until(lambda: len({c.pid for c in server.children()} - {c.pid for c in keeper_and_workers}) == 2, 60)
    until(lambda: agree(0.2), 30)
