"""Who answers at an address: this home's server, another home's, another program, or nobody."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from pathlib import Path
from typing import Self

import msgspec
import pytest

from millrace.app.commands.init import make_home
from millrace.app.doctor import examine
from millrace.app.keeper_lock import keeper_lock
from millrace.app.server_note import leave_note, note_path, read_note, who_answers
from millrace.app.settings import Settings, load_settings
from millrace.app.supervisor import Address
from millrace.base.clock import SystemClock


class Answering:
    """A server that answers everything with ``body``."""

    def __init__(self, body: bytes = b"<html>") -> None:
        self.body = body
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"status": "ok", "server": "mine"}', "this"),
        (b'{"status": "ok", "server": "another"}', "other_home"),
        (b'{"status": "ok"}', "other_home"),
        (b'{"status": "up"}', "other_program"),
        (b"<html>", "other_program"),
    ],
)
def test_a_server_is_known_by_the_name_that_it_tells(body: bytes, expected: str) -> None:
    with Answering(body) as server:
        assert who_answers("127.0.0.1", server.port, "mine") == expected
        assert who_answers("0.0.0.0", server.port, "mine") == expected


def test_a_server_without_a_name_is_never_this_one() -> None:
    with Answering(b'{"status": "ok", "server": ""}') as server:
        assert who_answers("127.0.0.1", server.port) == "other_home"


def test_nobody_answers_at_a_free_port() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert who_answers("127.0.0.1", port, "mine") == "nobody"


def test_each_start_leaves_a_note_under_a_new_name(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path)
    assert read_note(settings) is None
    first, second = (leave_note(settings, Address("127.0.0.1", port)) for port in (8001, 8002))
    assert first.server_id != second.server_id
    assert read_note(settings) == second
    assert msgspec.json.decode(note_path(settings).read_bytes())["port"] == 8002
    note_path(settings).write_bytes(b"{")
    assert read_note(settings) is None


# ----------------------------------------------------------------------------------------------- doctor


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")[0]


def found(settings: Settings, port: int) -> list[tuple[str, str]]:
    """What doctor finds of servers of a home whose config names a port: verdicts and details."""
    settings = load_settings(settings.home, {}, [("server.port", str(port))])
    findings = examine(settings, SystemClock())
    return [(finding.verdict, finding.detail) for finding in findings if finding.check == "server"]


def test_doctor_takes_no_other_program_for_this_homes_server(settings: Settings) -> None:
    with Answering() as other:
        taken = f"127.0.0.1:{other.port} is answered by another program"
        assert found(settings, other.port) == [("warning", f"{taken}, and no server runs on this home")]
        with keeper_lock(settings.data_dir):
            runs, busy = found(settings, other.port)
    assert runs == ("ok", f"this home's server runs (its keeper is process {os.getpid()}); it is starting")
    assert busy == ("warning", taken)


def test_doctor_finds_this_homes_server_wherever_it_is_bound(settings: Settings) -> None:
    with Answering() as own:
        note = leave_note(settings, Address("127.0.0.1", own.port))
        own.body = msgspec.json.encode({"status": "ok", "server": note.server_id})
        runs = f"this home's server runs (its keeper is process {os.getpid()}) and answers at 127.0.0.1:{own.port}"
        with keeper_lock(settings.data_dir):
            assert found(settings, own.port) == [("ok", runs)]
            assert found(settings, 0) == [("ok", runs)]


def test_doctor_takes_no_other_homes_server_on_the_port_for_its_own(settings: Settings) -> None:
    with Answering(b'{"status": "ok", "server": "elsewhere"}') as other:
        where = f"127.0.0.1:{other.port}"
        alien = ("warning", f"{where} is answered by another home's server, and no server runs on this home")
        assert found(settings, other.port) == [alien]
        leave_note(settings, Address("127.0.0.1", other.port))
        assert found(settings, other.port) == [alien]  # a note without a keeper says nothing
        with keeper_lock(settings.data_dir):
            ((verdict, detail),) = found(settings, other.port)
    assert verdict == "warning"
    assert detail.endswith(f"), but {where} is answered by another home's server")
