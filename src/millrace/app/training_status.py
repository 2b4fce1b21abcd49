"""How far a home's training is: the trainer keeps it in a small file, and whoever is asked reads it there.

The file stands in the home's run folder while a `millrace train` is at work, and is of a process: where that is gone,
however it went, nothing is being trained. A process is known by its number and when it began: after a restart of the
machine somebody else may have the number.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from millrace.app.settings import Settings
from millrace.base.atomic_file import replacing

if TYPE_CHECKING:
    from millrace.app.commands.printing import Step
    from millrace.app.evaluation import ShowProgress

_NAME: Final = "training.json"
_EVERY_S: Final = 2.0
_NAMES: Final = {
    "training semantic ids": "semantic ids",
    "training the social encoder": "social encoder",
    "training the ranker": "ranker",
    "training the towers": "towers",
    "distilling": "pre-ranker",
}
"""Stages that make a model are told by its name; others by what is done."""


class TrainingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a trainer is at.

    Attributes
    ----------
    pid, began
        Its process, and the moment at which that began, as the system names it; empty where it does not.
    stage, unit
        What it does, as its progress bar says it, and what is counted there.
    n_done, n_all
        How much of the stage is done, of how much; None: nobody knows yet.
    """

    pid: int
    began: str = ""
    stage: str
    unit: str = ""
    n_done: int = 0
    n_all: int | None = None

    def words(self) -> str:
        """Return it as people say it: ``"training, ranker 43 %"``."""
        stage = f"training, {_NAMES.get(self.stage, self.stage)}"
        if self.n_all:
            return f"{stage} {min(100 * self.n_done // self.n_all, 100)} %"
        return f"{stage}, {self.n_done:,} {self.unit}".rstrip() if self.n_done else stage


def status_path(settings: Settings) -> Path:
    """Return where a home's trainer keeps what it is at."""
    return settings.run_dir / _NAME


def training_status(settings: Settings) -> TrainingStatus | None:
    """Return what a home's trainer is at; None where none is at work."""
    status = _read(status_path(settings))
    return status if status is not None and is_alive(status.pid, status.began) else None


@contextmanager
def telling(settings: Settings, show_progress: ShowProgress, every_s: float = _EVERY_S) -> Iterator[ShowProgress]:
    """Give what shows progress as before, and also keeps it for others to see until the block ends.

    It is written at the begin of each stage, and then every ``every_s`` seconds at most.
    """
    path = status_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    began = process_begin(pid)

    @contextmanager
    def show(what: str) -> Iterator[Step]:
        with show_progress(what) as step:
            stage, _, unit = what.removesuffix(")").partition(" (")
            yield _ToldStep(path, TrainingStatus(pid=pid, began=began, stage=stage, unit=unit), step, every_s)

    try:
        yield show
    finally:
        # One that was refused, because another trains, leaves that one's.
        if (last := _read(path)) is not None and last.pid == pid:
            path.unlink(missing_ok=True)


def _read(path: Path) -> TrainingStatus | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainingStatus)
    except (OSError, msgspec.MsgspecError):
        return None


def process_begin(pid: int) -> str:
    """Return by what a process is told from another one of the same number: since which tick of which boot it runs.

    Empty where there is no such process, or the system has no ``/proc``.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Behind the name, which may hold blanks and parentheses itself: the twentieth word is the start time.
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{boot}:{words[19]}"
    except (OSError, IndexError):
        return ""


def is_alive(pid: int, began: str) -> bool:
    """Tell whether the process of a number lives that began then (`process_begin`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # somebody else's process: it is there
        pass
    except OSError:
        return False
    now = process_begin(pid)
    return not began or not now or now == began


class _ToldStep:
    """A line of progress that is kept in a file as well."""

    def __init__(self, path: Path, status: TrainingStatus, shown: Step, every_s: float) -> None:
        self._path = path
        self._shown = shown
        self._every_s = every_s
        self._status = status
        self._told_s = -every_s
        self._tell(self._status)

    def advance(self, n: int = 1) -> None:
        self._shown.advance(n)
        self._tell(msgspec.structs.replace(self._status, n_done=self._status.n_done + n))

    def total(self, n: int | None) -> None:
        self._shown.total(n)
        self._status = msgspec.structs.replace(self._status, n_all=n)

    def at(self, n: int, what: str) -> None:
        self._shown.at(n, what)
        self._tell(msgspec.structs.replace(self._status, n_done=n))

    def _tell(self, status: TrainingStatus) -> None:
        self._status = status
        now_s = time.monotonic()
        if now_s - self._told_s < self._every_s:
            return
        self._told_s = now_s
        with contextlib.suppress(OSError), replacing(self._path) as file:  # a full disk must not end a training for it
            file.write(msgspec.json.encode(status))
