"""An edit of the home's file reaches every worker of a running server, and a wrong one reaches none."""

from __future__ import annotations

import http.client
import itertools
import json
from typing import Any

import psutil
import pytest

from millrace.app.settings import CONFIG_NAME, Settings
from millrace.testing.server_process import ServerProcess, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

VIEWERS = itertools.count()


def connect(server: ServerProcess, n_workers: int) -> dict[int, http.client.HTTPConnection]:
    """Return an open connection to each worker, by process id: a connection stays with the worker that took it."""
    found: dict[int, http.client.HTTPConnection] = {}

    def has_all() -> bool:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=40)
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        port = connection.sock.getsockname()[1]
        for child in server.children():
            if any(tuple(c.raddr)[1:] == (port,) for c in child.net_connections("tcp")):
                found.setdefault(child.pid, connection)
        if connection not in found.values():
            connection.close()
        return len(found) == n_workers

    until(has_all, 60)
    return found


def ask(connection: http.client.HTTPConnection, path: str) -> Any:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert answer.status == 200, body
    return body


def like_weight(connection: http.client.HTTPConnection) -> float | None:
    """Return the weight of P(like) in one more viewer's page; None where the page is empty."""
    viewer = f"v{next(VIEWERS)}"
    page = ask(connection, f"/api/v1/timeline/home?viewer={viewer}")
    if not page["posts"]:
        return None
    why = ask(connection, f"/api/v1/requests/{page['request_id']}/why/{page['posts'][0]['post_id']}")
    return next(round(action["weight"], 6) for action in why["actions"] if action["name"] == "like")


def test_an_edit_reaches_every_worker_and_those_started_after_it(
    server: ServerProcess, settings: Settings, n_workers: int
) -> None:
    post = {"type": "PostCreated", "post_id": "p1", "author_id": "ada", "text": "The wheel turns."}
    answer = json.loads(server.get("/api/v1/events", json.dumps([{"payload": post}]).encode()))
    assert answer["n_accepted"] == 1
    workers = connect(server, n_workers)

    def weights() -> set[float | None]:
        return {like_weight(connection) for connection in workers.values()}

    file = settings.home / CONFIG_NAME
    until(lambda: weights() == {0.5}, 90)
    file.write_text('[params]\n"value.weight_like" = 0.75\n')
    until(lambda: weights() == {0.75}, 90)
    file.write_text('[params]\n"value.weight_like" = -1.0\n')
    log = settings.home / "server.log"
    until(lambda: log.read_text().count("param value.weight_like -1.0: out of bounds") == n_workers, 90)
    assert b"millrace_params_rejected 1.0" in server.get("/metrics")
    assert weights() == {0.75}
    file.write_text("[home]\nvalue_profile = 'classic'\n")
    until(lambda: weights() == {0.2}, 90)
    assert b"millrace_params_rejected 0.0" in server.get("/metrics")
    for pid, connection in workers.items():
        connection.close()
        psutil.Process(pid).kill()
    until(lambda: len(server.children()) == 1 + n_workers and server.is_ready(), 60)
    workers = connect(server, n_workers)
    assert weights() == {0.2}  # from the first page on, though the server was started with another file
    for connection in workers.values():
        connection.close()
