"""The learner of a demo: it trains the first models while the feed serves without, and promotes them when ready.

A child of the supervisor, of low priority, that ends when there is nothing more to learn. Training is a process of its
own: what it needs (torch) never enters the server, and what it leaves behind goes with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from millrace.app import wiring
from millrace.app.lifeline import Lifeline
from millrace.app.settings import HOME_VARIABLE, Settings
from millrace.app.training_outcome import TrainingOutcome, keep_outcome
from millrace.app.training_status import training_status
from millrace.stream.log import total

_NICENESS: Final = 15
_LOG_NAME: Final = "training.log"
_CHECK_S: Final = 0.5
_NEWS_EVERY_S: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1

MAX_TRIES: Final = 6
"""The log is then 32 times as long as it was when the demo began: there is nothing to wait for."""
_GROWTH: Final = 2

logger = logging.getLogger(__name__)


def can_learn() -> bool:
    """Tell whether what training needs is installed."""
    return importlib.util.find_spec("torch") is not None


def learn(settings: Settings, lifeline: Lifeline) -> None:
    """Train and promote, unless models serve already; ends early if the supervisor says so, or is gone.

    A training that fails, or whose models are refused, is told, and tried again when there is as much again to learn
    from (`try_until_it_serves`). One that is ended with the demo is gone on with by the next one.
    """
    lifeline.say_ready()
    if not can_learn() or wiring.build_registry(settings).serving():
        return
    log = wiring.build_log(settings)

    def train() -> bool:
        _train(settings, lifeline)
        return bool(wiring.build_registry(settings).serving())

    def wait() -> bool:
        lifeline.wait(_CHECK_S)
        return not lifeline.should_stop()

    try:
        try_until_it_serves(train, lambda: total(log.end()), wait)
    finally:
        log.close()


def try_until_it_serves(train: Callable[[], bool], n_records: Callable[[], int], wait: Callable[[], bool]) -> None:
    """Train until something serves; each try but the first waits until the log is twice as long as at the last one.

    Before that nothing has changed on which a training depends. After `MAX_TRIES` nobody tries any more.

    Parameters
    ----------
    train
        Trains; returns whether models serve now.
    n_records
        How many records the log has: pages, and what was done on them.
    wait
        Lets time pass; returns whether to go on.
    """
    for number in range(1, MAX_TRIES + 1):
        wanted = max(_GROWTH * n_records(), 1)
        if train() or number == MAX_TRIES or not wait():
            return
        logger.info("models: the next try is when the log has %s records", f"{wanted:,}")
        while n_records() < wanted:
            if not wait():
                return


def _train(settings: Settings, lifeline: Lifeline) -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    run = "from millrace.app.cli import main; main()"  # the same Python, whether or not its scripts are on the path
    command = [sys.executable, "-c", run, "train", "--promote", "--json"]
    for key, value in pairs_above(settings):
        command += ["--set", f"{key}={value}"]
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with (settings.run_dir / _LOG_NAME).open("wb") as log:
        trainer = subprocess.Popen(  # noqa: S603 - our own command
            command,
            env={**os.environ, **threads, "OMP_WAIT_POLICY": "passive", HOME_VARIABLE: str(settings.home)},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_be_a_trainer,
        )
        try:
            news = TrainingNews(settings)
            while trainer.poll() is None and not lifeline.should_stop():
                lifeline.wait(_CHECK_S)
                news.tell()
        finally:
            if trainer.poll() is None:
                trainer.kill()
            trainer.wait()
    if lifeline.should_stop():
        return
    if trainer.returncode:
        failed = TrainingOutcome(ended_ms=wiring.build_clock().now_ms(), problem=f"{log.name} tells why")
        keep_outcome(settings, failed)
        logger.warning("the first models could not be trained (%s tells why): counters rank", log.name)
        return
    logger.info("%s", outcome(settings.run_dir / _LOG_NAME))


class TrainingNews:
    """Tells in the terminal now and then how far a training is.

    Parameters
    ----------
    settings
        The home, where the trainer keeps it.
    every_s
        Not more often than that, and only what is new.
    """

    def __init__(self, settings: Settings, every_s: float = _NEWS_EVERY_S) -> None:
        self._settings = settings
        self._every_s = every_s
        self._told = ""
        self._told_s = -every_s

    def tell(self) -> None:
        """Say how far it is, if it is time."""
        if time.monotonic() - self._told_s < self._every_s:
            return
        status = training_status(self._settings)
        if status is not None and (words := status.words()) != self._told:
            self._told, self._told_s = words, time.monotonic()
            logger.info("models: %s", words)


def _be_a_trainer() -> None:
    """Leave the cores to the server, and end with the learner, even one that is killed (Linux can)."""
    os.nice(_NICENESS)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def outcome(log: Path) -> str:
    """Return in a line what came of a training, from what it printed into a file."""
    lines = [line for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    if not lines:
        return f"models were trained; what came of it is in {log}"
    told = msgspec.json.decode(lines[-1])
    served = ", ".join(told["promoted"]) or "none, counters go on"
    against = "".join(f"; {kind}: {reason}" for kind, reason in told["refused"].items())
    return f"models were trained on {told['ranker']['n_slates']:,} pages; serving now: {served}{against}"


def pairs_above(settings: Settings) -> list[tuple[str, str]]:
    """Return what environment and command line say of a home, as ``--set`` takes it: a trainer reads it by the same."""

    def pairs(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for name, value in table.items():
            if isinstance(value, Mapping):
                yield from pairs(f"{prefix}{name}.", value)
            else:
                yield f"{prefix}{name}", msgspec.json.encode(value).decode()  # which TOML reads alike

    return [pair for layer in settings.layers_above for pair in pairs("", layer.table)]
