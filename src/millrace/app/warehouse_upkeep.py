"""The upkeep of the warehouse: a process of low priority that the keeper starts about once an hour, and a role.

Building, merging and dropping take seconds to minutes; the keeper folds the log meanwhile. What the upkeep needs leaves
with it, and killed at any moment it has lost nothing (`millrace.flywheel.tables.tables`).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from millrace.app.settings import HOME_VARIABLE, Settings

if TYPE_CHECKING:
    from millrace.flywheel.postgres_interactions import LoadReport

_LOG_NAME: Final = "warehouse.log"
_NICENESS: Final = 10
_PR_SET_PDEATHSIG: Final = 1

logger = logging.getLogger(__name__)


class WarehouseUpkeep:
    """Starts the upkeep when it is due, as a process; never waits for it.

    Parameters
    ----------
    settings
        The home.
    now_s
        Monotonic seconds.
    """

    def __init__(self, settings: Settings, now_s: Callable[[], float]) -> None:
        self._settings = settings
        self._now_s = now_s
        # Not at once: a server that has just started has a log to catch up with.
        self._due_s = now_s() + settings.config.warehouse.build_every_s
        self._process: subprocess.Popen[bytes] | None = None

    def look(self) -> None:
        """Start the upkeep if it is due; tell of one that failed."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            if code:
                name = self._settings.run_dir / _LOG_NAME
                logger.error("the warehouse's upkeep failed (%s tells why) and is tried again when it is due", name)
        if self._process is None and self._now_s() >= self._due_s:
            self._due_s = self._now_s() + self._settings.config.warehouse.build_every_s
            self._process = start_upkeep(self._settings)

    def stop(self) -> None:
        """End an upkeep that runs: what it has not finished the next one does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


def start_upkeep(settings: Settings) -> subprocess.Popen[bytes]:
    """Start building, dropping and merging as a process of its own."""
    from millrace.app.learner import pairs_above

    values = [f"{key}={value}" for key, value in pairs_above(settings)]
    run = "import sys; from millrace.app.warehouse_upkeep import upkeep; upkeep(sys.argv[1:])"
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with (settings.run_dir / _LOG_NAME).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-c", run, *values],
            env={**os.environ, HOME_VARIABLE: str(settings.home)},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_leave_the_cores_to_the_server,
        )


def upkeep(overrides: list[str]) -> None:
    """Bring the tables of the home up to its raw events, drop what is old, merge what is small, samples too."""
    from millrace.app.commands.options import open_settings
    from millrace.app.warehouse_wiring import build_tables, build_warehouse
    from millrace.app.wiring import build_sample_compaction

    settings = open_settings(None, overrides)
    tables = build_tables(settings)
    tables.build()
    tables.retain()
    build_warehouse(settings).merge(min_files=settings.config.warehouse.merge_files)
    tables.compact()
    build_sample_compaction(settings).merge(min_files=settings.config.warehouse.merge_files)


def run_postgres(settings: Settings, *, once: bool, wait: Callable[[float], bool] | None = None) -> LoadReport:
    """Load interactions into PostgreSQL and refresh ``trending``, once or until stopped; return what was loaded.

    A server or a log that is away is told once, tried again less and less often, and told once more when it is back:
    the log and the warehouse keep what was missed.

    Parameters
    ----------
    settings
        The home.
    once
        Whether to leave when all that the log holds is loaded.
    wait
        Waits so many seconds; returns whether to go on. By default until SIGTERM or SIGINT.
    """
    from millrace.app.outage import Outage
    from millrace.app.warehouse_wiring import build_postgres_interactions, build_warehouse
    from millrace.app.wiring import build_clock, build_log
    from millrace.base.errors import LogError, StoreError
    from millrace.flywheel.postgres_interactions import LoadReport

    config, clock = settings.config.warehouse, build_clock()
    interactions, warehouse, log = build_postgres_interactions(settings), build_warehouse(settings), build_log(settings)
    goes_on = (lambda _seconds: False) if once else wait or _until_told()
    report, refreshed_s = LoadReport(), float("-inf")
    outage = Outage(logger, clock, config.load_every_s)
    try:
        while True:
            try:
                warehouse.export(log, waits=once)
                report.add(interactions.load())
                if once or clock.monotonic_s() - refreshed_s >= config.refresh_trending_s:
                    interactions.refresh_trending()
                    refreshed_s = clock.monotonic_s()
                outage.succeed()
                pause_s = config.load_every_s
            except (StoreError, LogError) as error:
                if once:
                    raise
                pause_s = outage.fail(error)
            if not goes_on(pause_s):
                return report
    finally:
        log.close()


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all Parquet files below a folder that readers' second names do not count twice in."""
    return sum(p.stat().st_size for p in folder.glob("*/dt=*/**/*.parquet") if not p.parts[-3].startswith("."))


def _until_told() -> Callable[[float], bool]:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return lambda seconds: not told.wait(seconds)


def _leave_the_cores_to_the_server() -> None:
    os.nice(_NICENESS)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
