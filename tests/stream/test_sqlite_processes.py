"""Several real processes on one log file: no event lands twice, no acknowledged event is lost, whoever is killed."""

import multiprocessing
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from millrace.base.clock import ManualClock
from millrace.stream.sqlite_log import SqliteLog
from millrace.testing.append_process import append_events
from millrace.testing.log_contract import messages

# Processes are forked off one that has imported everything: a hundred of them begin within a few seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["millrace.testing.append_process"])


class Appender:
    """One appending process."""

    def __init__(self, path: Path, **options: int) -> None:
        self.said, its_end = FORKS.Pipe()
        self.process = FORKS.Process(target=append_events, args=(its_end, path), kwargs=options)
        self.process.start()
        its_end.close()  # the process alone holds it: its end is heard here
        self.accepted: dict[str, int] = {}

    def wait_until_ready(self) -> None:
        assert self.said.recv() == "ready"

    def go(self) -> None:
        self.said.send("go")

    def hear(self, n_appends: int | None = None) -> None:
        """Take in acknowledgements: so many, or all until the process ends."""
        while n_appends is None or n_appends > 0:
            try:
                self.accepted.update(self.said.recv())
            except (EOFError, OSError):  # it ended, or was killed in the middle of a word
                return
            n_appends = None if n_appends is None else n_appends - 1

    def kill(self) -> None:
        self.process.kill()
        self.hear()  # what it still said before it died counts as acknowledged
        assert self.end() in (0, -signal.SIGKILL)

    def end(self) -> int | None:
        """Return the exit code."""
        self.said.close()
        self.process.join(30)
        code = self.process.exitcode
        self.process.close()
        return code


def read(path: Path, window: int = 1 << 20) -> dict[str, int]:
    """Return the offset of every event in the log; fail if one is there twice."""
    log = SqliteLog(path, ManualClock(), duplicate_window=window)
    consumer = log.subscribe("read")
    found: list[tuple[str, int]] = []
    while len(batch := consumer.poll(64)):
        found += zip((data.decode().split(":")[0] for data in batch.data), batch.offsets.tolist(), strict=True)
    consumer.close()
    assert [offset for _, offset in found] == list(range(log.end()[0]))
    log.close()
    assert max(Counter(name for name, _ in found).values(), default=1) == 1
    return dict(found)


def test_two_processes_with_the_same_events_land_each_once(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    both = [Appender(path, seed=seed, events=400, batch=4) for seed in (1, 2)]
    for appender in both:
        appender.wait_until_ready()
    for appender in both:
        appender.go()
    for appender in both:
        appender.hear()
        assert appender.end() == 0
    one, two = (appender.accepted for appender in both)
    assert not one.keys() & two.keys()
    assert {**one, **two} == read(path)
    assert len(read(path)) == 400


def kill_and_go_on(path: Path, seed: int, n_rounds: int, n_events: int) -> None:
    rng = np.random.default_rng(seed)
    acknowledged: dict[str, int] = {}
    other = Appender(path, seed=seed + 1, events=n_events, batch=1)
    other.wait_until_ready()
    other.go()
    for _ in range(n_rounds):
        victim = Appender(path, seed=seed, events=n_events, batch=int(rng.integers(1, 20)))
        victim.wait_until_ready()
        victim.go()
        victim.hear(int(rng.integers(0, 12)))
        victim.kill()
        acknowledged.update(victim.accepted)
    other.hear()
    assert other.end() == 0
    acknowledged.update(other.accepted)
    found = read(path)
    assert acknowledged.items() <= found.items()
    assert len(found) == n_events
    log = SqliteLog(path, ManualClock())
    assert log.append(messages(*(f"e{i}" for i in range(n_events)))).n_duplicates == n_events
    log.close()


def test_what_a_killed_process_acknowledged_is_there_once(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path / "log.db", seed=3, n_rounds=2, n_events=300)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_killing_appenders_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    for seed in range(6):
        kill_and_go_on(tmp_path / f"log-{seed}.db", seed=10 + 2 * seed, n_rounds=12, n_events=1_000)


FULL_SCRIPT = """
import resource, sys
from pathlib import Path
from millrace.base.clock import SystemClock
from millrace.base.errors import LogError
from millrace.stream.sqlite_log import SqliteLog
from millrace.testing.log_contract import messages

log = SqliteLog(Path(sys.argv[1]), SystemClock(), min_free_bytes=0)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
n_kept = n_refused = 0
for i in range(100):
    batch = messages(*(f"e{i}-{j}-" + "x" * 40 for j in range(50)))
    try:
        n_kept += log.append(batch).n_appended
    except LogError as error:
        n_refused += 1
        assert "cannot be written" in str(error), error
        last = batch
assert n_refused and n_kept
assert log.end() == (n_kept,), (log.end(), n_kept)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
assert log.append(last).n_appended == 50
log.close()
print(n_kept + 50)
"""


def test_writes_that_the_system_cuts_short_leave_nothing_half_done(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    done = subprocess.run([sys.executable, "-c", FULL_SCRIPT, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(read(path)) == int(done.stdout)
