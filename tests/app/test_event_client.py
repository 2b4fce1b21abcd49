"""The client: nothing is lost while the server is away, nothing is counted twice."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from millrace.app.event_buffer import EventBuffer
from millrace.app.event_client import Answer, EventClient
from millrace.base.errors import StoreError
from millrace.testing.server_process import until

LOOK = {"type": "Impression", "viewer_id": "v", "post_id": "p"}


class Server:
    """Stands for the door: knows events by their ids; ``answers`` come first, in order."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.events: dict[str, dict[str, Any]] = {}
        self.batches: list[int] = []
        self.headers: list[Mapping[str, str]] = []
        self.heard = threading.Event()

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        events = [json.loads(line) for line in body.splitlines()]
        self.batches.append(len(events))
        self.headers.append(headers)
        self.heard.set()
        if self.answers:
            answer = self.answers.pop(0)
            if answer.status:
                return answer
            if answer.body == b"taken, and the answer lost":
                self.events |= {event["event_id"]: event for event in events}
            return Answer(0)
        results = []
        for event in events:
            is_bad = event["payload"].get("post_id") == ""
            if not is_bad:
                self.events[event["event_id"]] = event
            results.append({"status": "refused", "error": "post_id ''"} if is_bad else {"status": "accepted"})
        return Answer(200, json.dumps({"results": results}).encode())


Make = Callable[..., EventClient]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(server: Server, **options: Any) -> EventClient:
        options = {"longest_pause_s": 0.01, "max_wait_s": 0.0, **options}
        return EventClient("http://nowhere", tmp_path / "events.db", post=server, **options)

    return make


def test_what_is_sent_arrives_in_order_with_the_time_of_sending_and_credentials(make: Make) -> None:
    server = Server()
    with make(server, api_key="k") as client:
        ids = [client.send(LOOK, event_time_ms=n) for n in range(10)]
    assert list(server.events) == ids
    assert [event["event_time_ms"] for event in server.events.values()] == list(range(10))
    assert server.headers[0]["authorization"] == "Bearer k"
    assert server.headers[0]["X-Millrace-Sent"].isdigit()
    assert (client.n_sent, client.n_refused) == (10, 0)


@pytest.mark.parametrize("status", [0, 429, 500, 503, 507])
def test_an_event_is_sent_until_the_server_has_it(make: Make, status: int) -> None:
    server = Server(*[Answer(status, retry_after_s=0.0 if status == 429 else None)] * 3)
    client = make(server)
    sent = client.send(LOOK)
    assert client.close()
    assert list(server.events) == [sent]
    assert len(server.batches) == 4


def test_a_lost_answer_makes_no_second_event(make: Make) -> None:
    server = Server(Answer(0, b"taken, and the answer lost"))
    with make(server) as client:
        client.send(LOOK)
    assert len(server.events) == 1
    assert len(server.batches) == 2


def test_what_the_server_refuses_for_good_is_told_and_not_sent_again(make: Make) -> None:
    refused: list[tuple[bytes, str]] = []
    server = Server()
    client = make(server, on_refused=lambda event, reason: refused.append((event, reason)))
    client.send({**LOOK, "post_id": ""})
    client.send(LOOK)
    assert client.close()
    assert (client.n_sent, client.n_refused, client.n_waiting) == (1, 1, 0)
    ((event, reason),) = refused
    assert json.loads(event)["payload"]["post_id"] == ""
    assert reason == "post_id ''"


def test_a_caller_that_fails_to_hear_of_a_refusal_is_told_of_each_once_and_the_rest_is_sent(make: Make) -> None:
    told: list[bytes] = []

    def on_refused(event: bytes, _reason: str) -> None:
        told.append(event)
        raise RuntimeError("the caller's own fault")

    server = Server()
    client = make(server, on_refused=on_refused)
    client.send({**LOOK, "post_id": ""})
    client.send({**LOOK, "post_id": ""})
    until(lambda: client.n_refused == 2 and not client.n_waiting, 60)
    sent = client.send(LOOK)
    until(lambda: client.n_sent == 1, 60)
    assert client.close()
    assert len(told) == 2
    assert list(server.events) == [sent]


def never_forgets(path: Path, number: int) -> None:
    """Have SQLite itself fail to remove an event, as on a disk that fails."""
    EventBuffer(path, 1 << 20).close()
    db = sqlite3.connect(path)
    db.execute(
        f"CREATE TRIGGER broken BEFORE DELETE ON waiting WHEN old.number = {number} "
        "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    )
    db.close()


def test_a_disk_that_fails_is_counted_and_the_thread_goes_on(make: Make, tmp_path: Path) -> None:
    never_forgets(tmp_path / "events.db", 1)
    server = Server()
    client = make(server)
    sent = client.send(LOOK)
    until(lambda: client.n_failures >= 3, 60)
    assert not client.close(timeout_s=0.1)
    assert list(server.events) == [sent]  # again and again, but known by its id
    assert client.n_waiting == 1


def test_what_failed_to_be_removed_does_not_keep_the_next_from_it(tmp_path: Path) -> None:
    never_forgets(tmp_path / "events.db", 1)
    buffer = EventBuffer(tmp_path / "events.db", 1 << 20)
    for event in (b"a", b"b", b"c"):
        buffer.add(event)
    with pytest.raises(sqlite3.Error, match="disk I/O error"):
        buffer.remove([2, 1])
    assert (len(buffer), buffer.oldest(9)[1]) == (3, [b"a", b"b", b"c"])
    buffer.remove([2])
    assert (len(buffer), buffer.oldest(9)[1]) == (2, [b"a", b"c"])
    buffer.close()


def test_a_batch_that_is_too_much_is_halved(make: Make, tmp_path: Path) -> None:
    buffer = EventBuffer(tmp_path / "events.db", 1 << 20)
    for n in range(8):
        buffer.add(json.dumps({"event_id": str(n), "payload": LOOK}).encode())
    buffer.close()
    server = Server(Answer(413), Answer(413))
    client = make(server, max_batch=8)
    assert client.close()
    assert server.batches[:3] == [8, 4, 2]
    assert len(server.events) == 8


def test_what_waited_when_a_program_was_killed_is_sent_by_the_next(make: Make, tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from millrace.app.event_client import Answer, EventClient\n"
        "client = EventClient('http://nowhere', Path(sys.argv[1]), post=lambda *_: Answer(0))\n"
        "for n in range(5): client.send({'type': 'Impression', 'viewer_id': 'v', 'post_id': str(n)})\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "events.db")], check=False, timeout=60)
    server = Server()
    assert make(server).close()
    assert [event["payload"]["post_id"] for event in server.events.values()] == list("01234")


def test_a_full_buffer_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    buffer = EventBuffer(tmp_path / "events.db", 30)
    for n in range(5):
        buffer.add(b"%010d" % n)
    assert (len(buffer), buffer.n_dropped) == (3, 2)
    assert buffer.oldest(9)[1] == [b"%010d" % n for n in (2, 3, 4)]
    buffer.remove(buffer.oldest(2)[0])
    buffer.close()
    assert len(EventBuffer(tmp_path / "events.db", 30)) == 1


def test_two_programs_need_two_files(tmp_path: Path) -> None:
    buffer = EventBuffer(tmp_path / "events.db", 30)
    buffer.add(b"mine")
    with pytest.raises(StoreError, match="a file of its own"):
        EventBuffer(tmp_path / "events.db", 30)
    buffer.close()


def test_over_real_http(make_service: Any, tmp_path: Path) -> None:
    import uvicorn

    service = make_service("development", follows=False)
    server = uvicorn.Server(uvicorn.Config(service.app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with EventClient(f"http://127.0.0.1:{port}", tmp_path / "events.db", max_wait_s=0.0) as client:
        sent = {client.send({**LOOK, "post_id": str(n)}) for n in range(50)}
    batch = service.log.subscribe("look", topics=["events.impression"]).poll(1_000)
    assert {service.codec.decode(data).event_id for data in batch.data} == sent
    server.should_exit = True
    thread.join(60)
    server.servers.clear()
