"""Compile the kernels that most tests need, in two processes that share the work; ``make kernels`` runs this.

The two processes of `make test` would else begin with the same minute and a half of compiling, each for itself. Where
it has been done for these sources already, nothing is done.
"""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numba
import numpy as np

import millrace
from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.warm_up import rehearsed_events, warm_up
from millrace.base.actions import ActionSpace
from millrace.base.ids import IdHasher
from millrace.base.kernels import source_stamp
from millrace.flywheel.join import StreamJoin
from millrace.simulator.config import WorldConfig
from millrace.simulator.world import simulate_history
from millrace.stores.fold import EventBatch

NOW_MS: Final = 1_800_000_000_000


def forwards() -> None:
    """Compile what serves, as a server does: the folds from the first to the last, then the page."""
    with tempfile.TemporaryDirectory() as folder:
        warm_up(make_home(Path(folder) / "home")[0])


def backwards() -> None:
    """Compile the folds from the last one on, until the other process is met; then the world, and what is left."""
    with tempfile.TemporaryDirectory() as folder:
        state = wiring.build_state(make_home(Path(folder) / "home")[0])
    events = rehearsed_events()
    times = np.array([event.event_time_ms for event in events])
    batch = EventBatch(events, np.arange(len(events)), times)
    codes, *others = state.folds()  # others read the codes
    for fold in (codes, *reversed(others)):
        fold.apply(batch)
        fold.tick(NOW_MS)
    for _ in simulate_history(WorldConfig(size="tiny"), NOW_MS):
        pass
    join = StreamJoin(IdHasher(), ActionSpace())
    for offset, event in enumerate(events):
        join.hear(offset, event.event_time_ms, event)
    join.restore(join.state())
    for module in pkgutil.walk_packages(millrace.__path__, "millrace."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)  # some kernels are compiled where they are imported


def compile_all(done: Path, parts: Sequence[Callable[[], None]]) -> int:
    """Run the parts beside each other, unless the file says that they have run; return the exit code."""
    if done.exists():
        return 0
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=part) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        return 1
    done.touch()
    return 0


if __name__ == "__main__":
    stamp = source_stamp(Path(millrace.__path__[0]))
    sys.exit(compile_all(Path(numba.config.CACHE_DIR) / f"compiled-{stamp}", (forwards, backwards)))
