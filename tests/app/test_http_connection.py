"""`Connection`: what is asked again, what is not, and what one is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from millrace.app.http_connection import Connection, CutError
from millrace.base.errors import FeedClientError

PROBLEM = b'{"error": {"status": 503, "message": "feed: not yet", "remedy": "try again"}}'


class Server(BaseHTTPRequestHandler):
    """Answers with what it was given, in turn; 0 cuts the connection."""

    protocol_version = "HTTP/1.1"
    statuses: ClassVar[list[int]] = []
    bodies: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        status = self.statuses.pop(0)
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(PROBLEM)))
        self.end_headers()
        self.wfile.write(PROBLEM)

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Server.statuses, Server.bodies = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    connection = Connection(url, timeout_s=10)
    yield connection
    connection.close()


def test_503_is_asked_again(connection: Connection) -> None:
    Server.statuses = [503, 503, 200]
    assert connection.ask("/x", b"body").status == 200
    assert Server.bodies == [b"body"] * 3


def test_503_is_told_where_it_is_not_to_be_asked_again(connection: Connection) -> None:
    Server.statuses = [503]
    assert connection.ask("/x", retries=False).status == 503


def test_a_cut_connection_is_made_anew_and_knows_nothing(connection: Connection) -> None:
    Server.statuses = [200, 0, 0, 200]
    connection.ask("/x")
    connection.reached = connection.reached_ms = 7
    assert connection.ask("/x").status == 200
    assert (connection.reached, connection.reached_ms) == (-1, -1)


def test_a_cut_is_told_to_whoever_wants_this_connection_or_none(connection: Connection) -> None:
    Server.statuses = [200, 0]
    connection.ask("/x")
    with pytest.raises(CutError):
        connection.ask("/x", reopens=False)


def test_errors_say_what_the_server_says(url: str) -> None:
    Server.statuses = [503] * 9
    connection = Connection(url, timeout_s=0.1)
    with pytest.raises(FeedClientError, match=r"not yet.*try again"):
        connection.ask("/x?y=1")
    connection.close()
    gone = Connection("http://127.0.0.1:9", timeout_s=0.1)
    with pytest.raises(FeedClientError, match="is it running"):
        gone.ask("/x")


@pytest.mark.parametrize("bad", ["https://x:1", "127.0.0.1:80", "http://h:port", "http://h/api"])
def test_only_plain_addresses_are_taken(bad: str) -> None:
    with pytest.raises(FeedClientError, match="without a path"):
        Connection(bad, timeout_s=1)
