"""Writing a checkpoint when somebody asks for one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Final

from millrace.app import wiring
from millrace.app.keeper_lock import keeper_lock, running_keeper
from millrace.app.keeper_process import open_keeper
from millrace.app.settings import Settings
from millrace.base.errors import CheckpointError
from millrace.stream.log import Position, total

CHECKPOINT_SIGNAL: Final = signal.SIGUSR1
"""A running keeper that gets it writes a checkpoint at its next turn."""

_POLL_S: Final = 0.02


def write_now(
    settings: Settings, *, timeout_s: float = 60.0, on_progress: Callable[[int, int], None] | None = None
) -> Position:
    """Write a checkpoint that holds everything that is in the log now; return its position.

    A running keeper is asked to; without one, this process is the keeper for a moment.

    Parameters
    ----------
    settings
        The home.
    timeout_s
        How long to wait for a running keeper; this process takes as long as it needs.
    on_progress
        Called with (records folded, records to fold) where this process folds.

    Raises
    ------
    CheckpointError
        If there is none after ``timeout_s``, or it could not be written.
    """
    log = wiring.build_log(settings)
    wanted = log.end()
    log.close()
    checkpoints = wiring.build_checkpoints(settings)
    deadline_s = time.monotonic() + timeout_s

    def is_late() -> bool:
        return time.monotonic() > deadline_s

    asked_s = float("-inf")
    while True:
        newest = checkpoints.newest_position()
        if newest is not None and total(newest) >= total(wanted):
            return newest
        pid = running_keeper(settings.data_dir)
        if pid is None:
            with keeper_lock(settings.data_dir, is_late) as is_mine:
                if is_mine:
                    _fold(settings, total(wanted), on_progress)
                    newest = checkpoints.newest_position()
                    if newest is None or total(newest) < total(wanted):
                        raise _none_written(settings, wanted, "as the messages above say")
                    return newest
        elif pid and time.monotonic() - asked_s > 1.0:
            # Asked again each second: a keeper that was still catching up has written one that is too old.
            os.kill(pid, CHECKPOINT_SIGNAL)
            asked_s = time.monotonic()
        if is_late():
            raise _none_written(settings, wanted, f"after {timeout_s:g} s")
        time.sleep(_POLL_S)


def records_to_fold(settings: Settings) -> int:
    """Return how many records of the log are in no checkpoint: what a server folds before it is ready."""
    log = wiring.build_log(settings)
    begin, end = total(log.begin()), total(log.end())
    log.close()
    newest = wiring.build_checkpoints(settings).newest_position()
    return end - (begin if newest is None else min(total(newest), end))


def _fold(settings: Settings, end: int, on_progress: Callable[[int, int], None] | None) -> None:
    """Be the keeper until everything is folded and in a checkpoint."""
    keeper = open_keeper(settings)
    keeper.start()
    first = total(keeper.position)
    while keeper.turn():
        if on_progress is not None:
            on_progress(min(total(keeper.position), end) - first, end - first)
    keeper.stop()


def _none_written(settings: Settings, wanted: Position, why: str) -> CheckpointError:
    return CheckpointError(
        "checkpoint",
        value=str(settings.checkpoints_dir),
        problem=f"none at log position {total(wanted)} {why}",
        remedy="see the keeper's messages on stderr",
    )
