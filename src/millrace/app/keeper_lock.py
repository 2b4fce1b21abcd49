"""One process at a time is the keeper of a home: the lock that says which."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LOCK_FILE: Final = "keeper.lock"


@contextmanager
def keeper_lock(data_dir: Path, should_stop: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """Hold the home's keeper lock; yield whether it could be had before ``should_stop``.

    The system lets go of it when the process ends, however it ends.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOCK_FILE).open("a+") as file:
        is_mine = False
        while not is_mine and not should_stop():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_mine = True
            except BlockingIOError:
                time.sleep(0.05)  # the keeper before us is about to end
        if is_mine:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield is_mine


def running_keeper(data_dir: Path) -> int | None:
    """Return the process id of the home's keeper, None if there is none."""
    path = data_dir / LOCK_FILE
    if not path.exists():
        return None
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdigit() else 0
    return None
