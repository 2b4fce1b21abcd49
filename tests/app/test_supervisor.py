"""The supervisor with toy children, in a process of its own: it forks, so it must not share pytest's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

_PROGRAM = """
import os, sys, time
from millrace.app.supervisor import Supervisor
from millrace.base.errors import MillraceError

def child(lifeline):
    lifeline.say_ready()
    while not lifeline.should_stop():
        lifeline.wait(0.01)
    say(f"ended {os.getpid()}")

def hopeless(lifeline):
    sys.exit(3)

def once(lifeline):
    say(f"learns {os.getpid()}")
    if not os.path.exists("learned"):
        open("learned", "x").close()
        sys.exit(4)

def say(text):
    print(text, flush=True)

supervisor = Supervisor(lambda pid: say(f"forgot {pid}"))
supervisor.add("keeper", child, 5.0)
supervisor.add("worker", hopeless if "hopeless" in sys.argv else child, 5.0)
if "aside" in sys.argv:
    supervisor.add("joiner", hopeless, 5.0, is_needed=False)
if "learner" in sys.argv:
    supervisor.add("learner", once, 5.0, may_end=True)
try:
    number = supervisor.run(lambda: say(f"ready {supervisor.processes()}"))
    say(f"signal {number}")
except MillraceError as error:
    say(f"error {error}")
"""


class Program:
    def __init__(self, *args: str, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=cwd,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def children(self) -> dict[str, int]:
        word, _, rest = self.line().partition(" ")
        assert word == "ready", word + rest
        return eval(rest)

    def kill(self) -> None:
        for child in psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []:
            child.kill()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[type[Program]]:
    started: list[Program] = []

    class Started(Program):
        def __init__(self, *args: str, cwd: Path | None = None) -> None:
            super().__init__(*args, cwd=cwd)
            started.append(self)

    yield Started
    for program in started:
        program.kill()


def wait_until(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.005)


def test_ends_its_children_in_order_and_says_which_signal(start: type[Program]) -> None:
    program = start()
    children = program.children()
    program.process.send_signal(signal.SIGTERM)
    lines = [program.line() for _ in range(5)]
    assert lines.index(f"ended {children['worker']}") < lines.index(f"ended {children['keeper']}")
    assert lines[-1] == "signal 15"
    assert program.process.wait(60) == 0


def test_a_killed_child_is_started_again(start: type[Program]) -> None:
    program = start()
    children = program.children()
    os.kill(children["worker"], signal.SIGKILL)
    assert program.line() == f"forgot {children['worker']}"
    parent = psutil.Process(program.process.pid)
    wait_until(lambda: len(parent.children()) == 2)
    assert children["worker"] not in {child.pid for child in parent.children()}
    program.process.send_signal(signal.SIGTERM)
    program.process.communicate(timeout=60)


def test_children_end_by_themselves_when_the_supervisor_is_killed(start: type[Program]) -> None:
    program = start()
    children = program.children()
    program.process.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(_lives(pid) for pid in children.values()))


def test_gives_up_on_a_child_that_is_never_ready(start: type[Program]) -> None:
    program = start("hopeless")
    lines = iter(program.line, "")
    said = next(line for line in lines if line.startswith("error"))
    assert "'worker': ended 5 times before it was ready" in said
    assert program.process.wait(60) == 0


def test_serves_on_however_often_a_child_beside_the_feed_dies_before_it_was_ready(start: type[Program]) -> None:
    program = start("aside")
    lines: list[str] = []
    while sum(line.startswith("forgot") for line in lines) < 6:  # one more than a child that is needed is allowed
        lines.append(program.line())
    assert sum(line.startswith("ready") for line in lines) == 1
    program.process.send_signal(signal.SIGTERM)
    assert "signal 15" in program.process.communicate(timeout=60)[0]


def test_a_child_that_may_end_is_started_again_when_it_fails_and_not_when_it_is_done(
    start: type[Program], tmp_path: Path
) -> None:
    program = start("learner", cwd=tmp_path)
    lines = []
    while not lines or not lines[-1].startswith("ready"):
        lines.append(program.line())
    learners = [line.split()[1] for line in lines if line.startswith("learns")]
    assert len(learners) == 2  # it failed once, and ended before it had said that it was ready
    parent = psutil.Process(program.process.pid)
    wait_until(lambda: len(parent.children()) == 2)
    program.process.send_signal(signal.SIGTERM)
    left = program.process.communicate(timeout=60)[0].split("\n")
    assert not [line for line in left if line.startswith("learns")]
    assert "signal 15" in left
    assert program.process.returncode == 0


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
