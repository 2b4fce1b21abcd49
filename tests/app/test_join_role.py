"""The joiner as a child of the supervisor: it is ready at once, and waits for its lock no longer than it may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from millrace.app.commands.init import make_home
from millrace.app.join_role import join_lock
from millrace.app.settings import CONFIG_NAME, Settings

# In a process of its own: it makes itself nicer.
_PROGRAM = """
import sys
from pathlib import Path
from millrace.app.join_role import run_joiner
from millrace.app.lifeline import Lifeline
from millrace.app.settings import load_settings

run_joiner(load_settings(Path(sys.argv[1])), Lifeline(int(sys.argv[2]), int(sys.argv[3])))
"""


def a_home(folder: Path) -> Settings:
    (folder / CONFIG_NAME).write_text("")
    return make_home(folder)[0]


def test_it_is_ready_while_somebody_joins_by_hand_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    settings = a_home(tmp_path)
    parent_read, parent_write = os.pipe()
    ready_read, ready_write = os.pipe()
    with join_lock(settings, lambda: True) as is_mine:
        assert is_mine
        child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(tmp_path), str(parent_read), str(ready_write)],
            pass_fds=(parent_read, ready_write),
        )
        os.close(ready_write)
        assert os.read(ready_read, 1) == b"r"
        os.close(parent_write)  # the supervisor is gone
        assert child.wait(60) == 0
    for descriptor in (parent_read, ready_read):
        os.close(descriptor)
