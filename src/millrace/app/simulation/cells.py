"""Several runs side by side, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import msgspec

from millrace.app.simulation.run import RunSpec, prepare, run
from millrace.base.errors import ConfigError
from millrace.simulator.config import HOUR_MS
from millrace.simulator.records import RunMeta, RunRecords

_LOOK_S: Final = 0.3


def run_cells(
    specs: Sequence[RunSpec], n_processes: int, on_progress: Callable[[float], None] = lambda _share: None
) -> list[RunRecords]:
    """Make all runs (or go on with those that were interrupted); return their records in order.

    Parameters
    ----------
    specs
        The runs; their folders must differ.
    n_processes
        How many at a time.
    on_progress
        Called now and then with the share of all virtual time that has passed.
    """
    folders = [spec.folder for spec in specs]
    if len(set(folders)) < len(folders):
        twice = next(folder for folder in folders if folders.count(folder) > 1)
        raise ConfigError("run folder", value=twice, problem="named for two runs", remedy="name policies differently")
    if n_processes == 1 or len(specs) == 1:
        return [_alone(spec, number, len(specs), on_progress) for number, spec in enumerate(specs)]
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        # Worlds first, one process each: two runs of one world must not both make it.
        worlds = {msgspec.json.encode(spec.world): spec for spec in specs}
        _wait([pool.submit(prepare, spec) for spec in worlds.values()], lambda: None)
        running = [pool.submit(run, spec) for spec in specs]
        _wait(running, lambda: on_progress(sum(map(_share, specs)) / len(specs)))
    return [RunRecords.read(Path(spec.folder)) for spec in specs]


def _alone(spec: RunSpec, number: int, n: int, on_progress: Callable[[float], None]) -> RunRecords:
    from millrace.app.simulation.run import Hooks, Progress

    def tell(progress: Progress) -> None:
        on_progress((number + progress.n_slices / progress.n_slices_in_all) / n)

    run(spec, 1, Hooks(on_progress=tell))
    return RunRecords.read(Path(spec.folder))


def _wait(futures: Sequence[Future[Any]], look: Callable[[], None]) -> None:
    while not all(future.done() for future in futures):
        if any(future.done() and future.exception() for future in futures):
            break
        look()
        time.sleep(_LOOK_S)
    for future in futures:
        if future.done():
            future.result()
    look()


def _share(spec: RunSpec) -> float:
    path = Path(spec.folder) / "run.json"
    try:
        meta = msgspec.json.decode(path.read_bytes(), type=RunMeta)
    except (OSError, msgspec.DecodeError):
        return 0.0
    return min((meta.ended_ms - meta.began_ms) / (spec.hours * HOUR_MS), 1.0)
