"""Kill -9 at every line: whatever is running, readers see the old state or the new one, and the next writer goes on.

A process that has nothing but the registry is forked once for every line that an operation comes to (those of shutil
too), and the child kills itself at that line.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = '''
import os, shutil, signal, sys
from pathlib import Path
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry

what, root = sys.argv[1], Path(sys.argv[2])
os.fsync = lambda descriptor: None  # a kill, unlike a power cut, loses nothing that was written
said = Description(kind="ranker", feature_schema_hash="f", from_ms=0, until_ms=1)
trained = root / "trained"
trained.mkdir()

def publish(registry, text):
    (trained / "net").write_text(text)
    return registry.publish(trained, said, now_ms=0).version

first = Registry(root / "first")
old, new, surplus = (publish(first, text) for text in ("old", "new", "surplus"))
first.promote({"ranker": old}, now_ms=0)

def act(registry):
    if what == "promote":
        registry.promote({"ranker": new}, now_ms=1)
    elif what == "publish":
        publish(registry, "newer")
    else:
        registry.prune(0)

def state(registry):
    names = [registry.verify("ranker", version).version for version in registry.versions("ranker")]
    changes = [(change.serial, change.versions["ranker"]) for change in registry.history()]
    return registry.serving()["ranker"], names, changes

def is_killed_at(n, registry):
    """Act in a child that kills itself at the nth line that it comes to."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    seen = set()
    def trace(frame, event, argument):
        name = frame.f_code.co_filename
        if "/millrace/registry/" not in name and not name.endswith("/shutil.py"):
            return None
        if event == "line":
            seen.add((frame.f_code, frame.f_lineno))
            if len(seen) > n:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    act(registry)
    os._exit(0)

def copy(name):
    shutil.copytree(root / "first", root / name)
    return Registry(root / name)

finished = copy("finished")
act(finished)
before, after = state(first), state(finished)
assert before != after
n, found, is_killed = 0, [], True
while is_killed:
    registry = copy(str(n))
    is_killed = is_killed_at(n, registry)
    found.append(state(registry))
    between = what == "prune" and found[-1] == (before[0], [old, surplus], before[2])  # versions go one by one
    assert found[-1] in (before, after) or between, (n, found[-1])
    act(registry)  # whatever was left behind, the next one can
    registry.prune(3)
    assert state(registry)[:2] == after[:2], (n, state(registry))
    assert not [*(root / str(n) / "ranker").glob(".*")]
    shutil.rmtree(root / str(n))
    n += 1
print(n, found.count(before), found.count(after))
'''


@pytest.mark.parametrize("what", ["promote", "publish", "prune"])
def test_a_kill_at_any_line_leaves_the_old_or_the_new_state(what: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, what, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    n_kills, n_old, n_new = map(int, done.stdout.split())
    assert n_kills > 30  # lines
    assert n_old > 0
    assert n_new > 0
