"""The client over a network that may answer anything: its thread goes on, and what is not answered for is kept."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from millrace.app.event_buffer import EventBuffer
from millrace.app.event_client import Answer, EventClient
from millrace.testing.server_process import until

LOOK = {"type": "Impression", "viewer_id": "v", "post_id": "p"}


class WireServer:
    """Gives the answers it is told to, byte for byte, one a connection; then takes every event, as a server does."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.requests: list[tuple[bytes, bytes]] = []
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def taken(self) -> list[str]:
        """Ids of the events of the newest request."""
        return [json.loads(line)["event_id"] for line in self.requests[-1][1].splitlines()]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                head = b"".join(iter(stream.readline, b"\r\n"))
                length = head.lower().partition(b"content-length:")[2].split()
                body = stream.read(int(length[0]) if length else 0)
                self.requests.append((head, body))
                connection.sendall(self._answers.pop(0) if self._answers else self._all_well(body))

    @staticmethod
    def _all_well(body: bytes) -> bytes:
        results = [{"status": "accepted"} for _ in body.splitlines()]
        return ok(json.dumps({"results": results}).encode())


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


Serve = Callable[..., WireServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[WireServer] = []

    def serve(*answers: bytes) -> WireServer:
        servers.append(WireServer(answers))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def client_of(server: WireServer, folder: Path) -> EventClient:
    return EventClient(server.url, folder / "events.db", max_wait_s=0.0, longest_pause_s=0.01, timeout_s=10.0)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"n_acc', id="200 cut off"),
        pytest.param(b"HTTP/1.1 503 X\r\nContent-Length: 500\r\n\r\nabc", id="503 cut off"),
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_broken_answer_counts_as_none_and_the_thread_sends_again(serve: Serve, tmp_path: Path, answer: bytes) -> None:
    server = serve(answer, answer)
    client = client_of(server, tmp_path)
    sent = client.send(LOOK)
    until(lambda: client.n_sent == 1, 60)  # the thread's own doing: nothing has called flush
    assert len(server.requests) == 3
    assert server.taken == [sent]
    assert client.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ok(b"<html>Welcome to the airport</html>"), id="a captive portal"),
        pytest.param(ok(b'{"results": []}'), id="no results"),
        pytest.param(ok(b'{"results": [{"status": "fine"}]}'), id="a status of no door"),
        pytest.param(ok(b'{"results": "accepted"}'), id="no list"),
        pytest.param(ok(b"[]"), id="another service"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", id="204"),
    ],
)
def test_a_success_that_names_no_result_takes_no_event(serve: Serve, tmp_path: Path, answer: bytes) -> None:
    server = serve(answer, answer)
    with client_of(server, tmp_path) as client:
        sent = client.send(LOOK)
        until(lambda: client.n_sent == 1, 60)
    assert len(server.requests) == 3
    assert server.taken == [sent]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(serve: Serve, tmp_path: Path, status: int) -> None:
    elsewhere = serve()
    moved = b"HTTP/1.1 %d Moved\r\nLocation: %s/\r\nContent-Length: 0\r\n\r\n" % (status, elsewhere.url.encode())
    server = serve(moved)
    with client_of(server, tmp_path) as client:
        client.send(LOOK)
        until(lambda: client.n_sent == 1, 60)
    assert (len(server.requests), len(elsewhere.requests)) == (2, 0)


def test_of_a_short_answer_the_events_with_a_result_are_done(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def post(body: bytes, _headers: Mapping[str, str]) -> Answer:
        bodies.append(body)
        n = 2 if len(bodies) == 1 else body.count(b"\n")
        return Answer(200, json.dumps({"results": [{"status": "accepted"}] * n}).encode())

    buffer = EventBuffer(tmp_path / "events.db", 1 << 20)
    for event in (b"a", b"b", b"c"):
        buffer.add(event)
    buffer.close()
    client = EventClient("http://nowhere", tmp_path / "events.db", post=post, longest_pause_s=0.01)
    assert client.close()
    assert bodies == [b"a\nb\nc\n", b"c\n"]
    assert client.n_sent == 3
