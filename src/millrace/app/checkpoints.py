"""Writing a checkpoint when somebody asks for one."""

from __future__ import annotations

import os
import signal
import time
from typing import Final

from millrace.app import wiring
from millrace.app.keeper import keeper_lock, open_keeper, running_keeper
from millrace.app.settings import Settings
from millrace.base.errors import CheckpointError
from millrace.stream.log import Position, total

CHECKPOINT_SIGNAL: Final = signal.SIGUSR1
"""A running keeper that gets it writes a checkpoint at its next turn."""

_POLL_S: Final = 0.02


def write_now(settings: Settings, *, timeout_s: float = 60.0) -> Position:
    """Write a checkpoint that holds everything that is in the log now; return its position.

    A running keeper is asked to; without one, this process is the keeper for a moment.

    Raises
    ------
    CheckpointError
        If there is none after ``timeout_s``.
    """
    log = wiring.build_log(settings)
    wanted = log.end()
    log.close()
    checkpoints = wiring.build_checkpoints(settings)
    deadline_s = time.monotonic() + timeout_s
    asked_s = float("-inf")
    while True:
        newest = checkpoints.newest_position()
        if newest is not None and total(newest) >= total(wanted):
            return newest
        pid = running_keeper(settings.data_dir)
        if pid is None:
            with keeper_lock(settings.data_dir, lambda: time.monotonic() > deadline_s) as is_mine:
                if is_mine:
                    keeper = open_keeper(settings)
                    keeper.start()
                    keeper.stop()
        elif pid and time.monotonic() - asked_s > 1.0:
            # Asked again each second: a keeper that was still catching up has written one that is too old.
            os.kill(pid, CHECKPOINT_SIGNAL)
            asked_s = time.monotonic()
        if time.monotonic() > deadline_s:
            raise CheckpointError(
                "checkpoint",
                value=str(settings.checkpoints_dir),
                problem=f"none at log position {total(wanted)} after {timeout_s:g} s",
                remedy="see the keeper's messages on the server's stderr",
            )
        time.sleep(_POLL_S)
