"""The demo's world lives: time and posts go on behind the page, whoever is killed, and the next start goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from millrace.app import wiring
from millrace.app.demo_world import read_note, state_path, world_of
from millrace.app.join_role import running_joiner
from millrace.app.keeper_lock import running_keeper
from millrace.app.settings import load_settings
from millrace.simulator.snapshot import read_snapshot
from millrace.testing.server_process import COMMAND, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

SPEED = 1_200
"""Twenty virtual minutes a second: four slices."""

MINUTE_MS = 60_000
PATIENCE_S = 120


class Demo:
    """A demo on a tiny world in a process group of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = ""
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = ("--speed", str(SPEED), "--set", "world.size=tiny", "--set", "server.port=0", "--viewer", "u5")
        options += ("--set", "near_line.is_on=false", "--set", "guards.is_on=false")
        with (self.home / "out.txt").open("w") as out, (self.home / "err.txt").open("a") as err:
            return subprocess.Popen(
                [*COMMAND, "demo", "--home", str(self.home), "--no-learn", *options],
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def restart(self) -> None:
        self.process = self._start()
        self.wait_shown()

    def wait_shown(self) -> None:
        def is_shown() -> bool:
            assert self.process.poll() is None, (self.home / "err.txt").read_text()
            lines = (self.home / "out.txt").read_text().splitlines()
            found = [line.split()[-1] for line in lines if line.lstrip().startswith("metrics")]
            self.url = found[0].removesuffix("/metrics") if found else ""
            return bool(found)

        until(is_shown, PATIENCE_S)

    def get(self, path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(self.url + path, data=data, timeout=60) as answer:
            return json.loads(answer.read())

    def now_ms(self) -> int:
        return int(self.get("/readyz")["now_ms"])

    def goes_on(self, minutes: int = 30) -> int:
        """Return the world's time once it has gone on."""
        start_ms = patiently(self.now_ms)
        until(lambda: patiently(self.now_ms) >= start_ms + minutes * MINUTE_MS, PATIENCE_S)
        return start_ms

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def child(self, name: str) -> psutil.Process:
        """Return the keeper, the only worker, or the life, which is the one that lets all others go first."""
        settings = load_settings(self.home)
        keeper, joiner = running_keeper(settings.data_dir), running_joiner(settings)
        life = next(child.pid for child in self.children() if child.nice() > 0 and child.pid != joiner)
        others = [child for child in self.children() if child.pid not in (keeper, joiner, life)]
        assert len(others) == 1
        pid = {"keeper": keeper, "life": life, "worker": others[0].pid}[name]
        return psutil.Process(pid)

    def kill_supervisor(self) -> None:
        children = self.children()
        self.process.kill()
        self.process.wait()
        gone, alive = psutil.wait_procs(children, PATIENCE_S)
        assert not alive, "nobody is left behind"
        assert len(gone) == len(children)


def patiently(ask: Callable[[], int]) -> int:
    """Ask again where a kill cuts the answer off."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except (OSError, ValueError):
            if time.monotonic() > deadline_s:
                raise


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    try:
        demo.wait_shown()
        yield demo
    finally:
        if demo.process.poll() is None:
            os.killpg(demo.process.pid, signal.SIGKILL)
            demo.process.wait()


def event_ids(home: Path) -> list[str]:
    """Return the ids of the world's own events, in the order of the log."""
    settings = load_settings(home)
    log, codec = wiring.build_log(settings), wiring.build_codec(settings)
    consumer = log.subscribe("test", start=log.begin())
    found: list[str] = []
    while len(records := consumer.poll(10_000)):
        found += [codec.decode(data).event_id for data in records.data]
    consumer.close()
    log.close()
    return [event_id for event_id in found if event_id.startswith("w-")]


def n_told(home: Path) -> int:
    """Return how many events the world has told, by its own account."""
    settings = load_settings(home)
    note = read_note(settings)
    assert note is not None
    world = world_of(note)
    read_snapshot(state_path(settings), world)
    return world.narrator.n_events


def test_time_and_posts_go_on_behind_the_page(demo: Demo) -> None:
    begun_ms = demo.goes_on(180)
    assert f"{SPEED} minutes pass in each of ours" in " ".join((demo.home / "err.txt").read_text().split())
    page = demo.get("/api/v1/timeline/home?viewer=u5&limit=50")
    assert any(post["created_at_ms"] > begun_ms for post in page["posts"]), "what is new is on the page"
    tick_ms = demo.now_ms() + 180 * MINUTE_MS
    tick = {"payload": {"type": "ClockTick", "now_ms": tick_ms}}
    assert demo.get("/api/v1/events", json.dumps(tick).encode())["results"][0]["status"] == "accepted"
    until(lambda: demo.now_ms() >= tick_ms + 30 * MINUTE_MS, PATIENCE_S)  # somebody moved time: it is caught up with
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    assert "Traceback" not in (demo.home / "err.txt").read_text()


def test_whoever_is_killed_the_world_goes_on(demo: Demo) -> None:
    seen_ms = 0
    for name in ("life", "worker", "keeper", "life"):
        now_ms = demo.goes_on()
        assert now_ms >= seen_ms
        seen_ms = now_ms
        demo.child(name).kill()
        until(lambda: len(demo.children()) == 4, PATIENCE_S)
    seen_ms = max(seen_ms, demo.goes_on())
    demo.kill_supervisor()
    demo.restart()
    assert "Going on with the world" in " ".join((demo.home / "err.txt").read_text().split())
    assert demo.now_ms() >= seen_ms
    demo.goes_on()
    demo.process.terminate()
    assert demo.process.wait(60) == 0
    found = event_ids(demo.home)
    assert len(found) == len(set(found)), "nothing was told twice"
    # Some feedback is lost or under way, as it is in this world; nothing else is missing.
    assert 0.9 * n_told(demo.home) <= len(found) <= n_told(demo.home)
