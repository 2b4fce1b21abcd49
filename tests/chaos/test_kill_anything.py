"""Real processes, killed with SIGKILL at any moment, under load: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from millrace.app import wiring
from millrace.app.settings import Settings
from millrace.base.ids import IdHasher
from millrace.stores.content_store import ContentStore
from millrace.stores.sqlite_content import SqliteContentWrites
from millrace.stream.log import total
from millrace.testing.server_process import COMMAND, ServerProcess, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


@pytest.fixture
def overrides(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Have the joiner too: it may be killed like the others, and what it keeps must be forgotten like the rest."""
    return (*overrides, "flywheel.joins=true")


class Producer(threading.Thread):
    """Posts batches of events and remembers which ones were acknowledged; sends again what was not."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.acknowledged: list[str] = []
        self.n_failures = 0
        self.should_stop = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.should_stop.is_set():
            lines = [self._event(number + i) for i in range(20)]
            try:
                answer = json.loads(self.server.get("/api/v1/events", b"\n".join(lines)))
            except OSError:
                self.n_failures += 1
                time.sleep(0.05)
                continue  # the same events again: taken in already or not, each counts once
            assert answer["n_refused"] == 0, answer
            self.acknowledged += [result["event_id"] for result in answer["results"]]
            number += 20

    @staticmethod
    def _event(number: int) -> bytes:
        user, post = f"u{number % 23}", f"p{number}"
        payloads = (
            {"type": "PostCreated", "post_id": post, "author_id": user, "text": f"text of {post}"},
            {"type": "FollowChanged", "follower_id": f"u{number % 7}", "followee_id": user},
            {"type": "Engagement", "viewer_id": user, "post_id": f"p{number - 2}", "action": "like"},
            {"type": "PostEdited", "post_id": f"p{number - 3}", "text": f"edited {number}"},
            {"type": "ProfileUpdated", "user_id": user, "name": f"Name {number}"},
        )
        return json.dumps({"event_id": f"e{number}", "payload": payloads[number % 5]}).encode()


class Reader(threading.Thread):
    """Asks for pages all the time; counts answers, and requests that were cut off by a kill."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.n_pages = self.n_cut = 0
        self.wrong: list[str] = []
        self.should_stop = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.should_stop.is_set():
            number += 1
            try:
                page = json.loads(self.server.get(f"/api/v1/timeline/home?viewer=u{number % 7}"))
            except urllib.error.HTTPError as error:
                self.wrong.append(f"{error.code} {error.read()[:200]!r}")
                continue
            except OSError:
                self.n_cut += 1
                time.sleep(0.02)
                continue
            self.n_pages += 1
            self.wrong += [f"no text: {post}" for post in page["posts"] if not post["text"]]


def check_everything(settings: Settings, acknowledged: list[str]) -> None:
    """Check log, state and content after the storm."""
    log = wiring.build_log(settings)
    codec = wiring.build_codec(settings)
    consumer = log.subscribe("check", start=log.begin())
    ids: list[str] = []  # of clients' events, and of the `Served` that workers wrote
    while len(records := consumer.poll(5000)):
        ids += [codec.decode(data).event_id for data in records.data]
    consumer.close()
    assert len(ids) == len(set(ids)), "an event is in the log twice"
    assert set(acknowledged) <= set(ids), "an acknowledged event is lost"
    assert list(log.dead_letters()) == []

    restored = wiring.build_replica(settings, log, has_content_reads=False)
    assert restored.restore() is not None
    restored.catch_up()
    anew_path = settings.home / "anew.db"
    content = ContentStore(SqliteContentWrites(anew_path), IdHasher())
    replayed = wiring.build_replica(settings, log, listeners=(content,), has_content_reads=False)
    replayed.catch_up()
    content.commit(replayed.position)
    for store, arrays in replayed.arrays().items():
        for name, array in arrays.items():
            assert array.tobytes() == restored.arrays()[store][name].tobytes(), f"{store}/{name}"
    reader = wiring.build_content_reader(settings)
    assert total(reader.position()) == total(log.end()), "the keeper's last commit is missing"
    for table in ("posts", "profiles"):
        newest = (
            f"SELECT data FROM {table} WHERE at IN (SELECT max(at) FROM {table} GROUP BY {table[:-1]}_id) ORDER BY at"
        )
        newest = newest.replace("profile_id", "user_id")
        rows = [sqlite3.connect(path).execute(newest).fetchall() for path in (settings.content_path, anew_path)]
        assert rows[0] == rows[1], table
    for part in (reader, content, restored, replayed, log):
        part.close()


def test_processes_are_killed_one_after_the_other_under_load(
    server: ServerProcess, settings: Settings, n_workers: int
) -> None:
    producer, readers = Producer(server), [Reader(server), Reader(server)]
    threads: tuple[Producer | Reader, ...] = (producer, *readers)
    for thread in threads:
        thread.start()
    rng = random.Random(7)
    for _ in range(8):
        time.sleep(rng.uniform(0.2, 0.9))
        victim = rng.choice(server.children())
        victim.kill()
        until(lambda: len(server.children()) == 2 + n_workers, 90)
    until(server.is_ready, 90)
    n_before = [reader.n_pages for reader in readers]
    # Two pages more, of each: the first may have been made before the last kill.
    until(lambda: all(reader.n_pages >= n + 2 for reader, n in zip(readers, n_before, strict=True)), 90)
    for thread in threads:
        thread.should_stop.set()
        thread.join(30)
    assert server.stop() == 0
    assert len(producer.acknowledged) > 200
    assert [wrong for reader in readers for wrong in reader.wrong] == []
    # A kill cuts off at most what the killed worker had in hand: never a service.
    assert sum(reader.n_cut for reader in readers) <= 3 * 8
    check_everything(settings, producer.acknowledged)


def test_everything_is_killed_at_once_again_and_again(server: ServerProcess, settings: Settings) -> None:
    acknowledged: list[str] = []
    rng = random.Random(11)
    number = 0
    for _ in range(4):
        deadline = time.monotonic() + rng.uniform(0.3, 1.5)
        while time.monotonic() < deadline:
            lines = [Producer._event(number + i) for i in range(20)]
            answer = json.loads(server.get("/api/v1/events", b"\n".join(lines)))
            acknowledged += [result["event_id"] for result in answer["results"]]
            number += 20
        server.kill_all()
        server.restart()
    assert server.stop() == 0
    check_everything(settings, acknowledged)


def test_a_killed_supervisor_leaves_no_process_behind(server: ServerProcess) -> None:
    children = server.children()
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    _, alive = psutil.wait_procs(children, timeout=90)
    assert alive == []
    server.restart()  # the port is free again, and so is the keeper's lock
    assert server.stop() == 0


def test_a_corrupt_checkpoint_is_refused_and_the_one_before_is_used(server: ServerProcess, settings: Settings) -> None:
    for first in (0, 1000):
        lines = [Producer._event(first + i) for i in range(1000)]
        server.get("/api/v1/events", b"\n".join(lines))
        subprocess.run([*COMMAND, "checkpoint", "--home", str(settings.home)], check=True, stdout=subprocess.DEVNULL)
    server.kill_all()
    newest = wiring.build_checkpoints(settings).paths()[-1]
    # Inside an array: arrays begin at whole pages, and nobody reads what lies between them.
    arrays = json.loads((newest / "manifest.json").read_bytes())["arrays"]
    largest = max(arrays.values(), key=lambda array: int(array["n_bytes"]))
    with (newest / "arrays.bin").open("r+b") as file:
        file.seek(largest["offset"] + largest["n_bytes"] // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0xFF]))
    server.restart()
    assert "damaged array" in (settings.home / "server.log").read_text()
    assert server.stop() == 0
    acknowledged = [f"e{i}" for i in range(2000)]
    check_everything(settings, acknowledged)


def files_in(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file with what is in it. The keeper goes on meanwhile: what it removes is passed over."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                yield path, path.read_bytes()
            except FileNotFoundError:
                continue


def test_an_erasure_survives_the_keeper_and_leaves_no_words_in_any_file(
    server: ServerProcess, settings: Settings
) -> None:
    words, name = "the words of erin", "Erin Example"
    payloads: list[dict[str, object]] = [
        {"type": "PostCreated", "post_id": "erins", "author_id": "erin-to-erase", "text": words},
        {"type": "ProfileUpdated", "user_id": "erin-to-erase", "name": name},
        {"type": "FollowChanged", "follower_id": "bob", "followee_id": "erin-to-erase"},
        {"type": "PostCreated", "post_id": "bobs", "author_id": "bob", "text": "the words of bob"},
    ]

    def send(some: list[dict[str, object]]) -> None:
        server.get("/api/v1/events", json.dumps([{"payload": payload} for payload in some]).encode())

    def files_with(text: str) -> list[str]:
        return sorted(path.name for path, data in files_in(settings.data_dir) if text.encode() in data)

    def texts_seen() -> list[str]:
        page = json.loads(server.get("/api/v1/timeline/home?viewer=bob"))
        return [post["text"] for post in page["posts"]]

    send(payloads)
    until(lambda: words in texts_seen(), 90)
    until(lambda: "content.db-wal" in files_with(words) or "content.db" in files_with(words), 90)
    send([{"type": "UserErased", "user_id": "erin-to-erase"}])
    for _ in range(3):
        keeper = int((settings.data_dir / "keeper.lock").read_text() or 0)
        if keeper in {child.pid for child in server.children()}:
            os.kill(keeper, signal.SIGKILL)
        time.sleep(0.3)
    until(lambda: not files_with(words) and not files_with(name), 90)
    assert words not in texts_seen()
    send(
        [{"type": "PostCreated", "post_id": f"later{i}", "author_id": "bob", "text": f"later {i}"} for i in range(400)]
    )
    assert server.stop() == 0
    assert files_with("erin-to-erase") == []
