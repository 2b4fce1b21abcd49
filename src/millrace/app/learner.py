"""The learner beside a server: it trains the first models while the feed serves without, then learns on, hour by hour.

A child of the supervisor, of low priority, that ends when there is nothing more to learn. Training is a process of its
own, and so is learning on (`millrace flywheel run`): what they need (torch) never enters the server, and what they
leave behind goes with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from millrace.app import wiring
from millrace.app.first_training import log_length, logged_pages, needs_first_ranker, why_to_wait
from millrace.app.flywheel_rounds import decision_log
from millrace.app.learning_note import keep_waiting, nothing_waits
from millrace.app.lifeline import Lifeline
from millrace.app.roles_beside import LEARNER_LOCK, LearnerFailure, keep_failure
from millrace.app.settings import HOME_VARIABLE, Settings
from millrace.app.student_renewal import distillation_log
from millrace.app.training_outcome import TrainingOutcome, keep_outcome
from millrace.app.training_status import training_status
from millrace.base.backoff import Backoff
from millrace.base.config import Layer

_NICENESS: Final = 15
_LOG_NAME: Final = "training.log"
_ROUNDS_LOG_NAME: Final = "flywheel.log"
_CHECK_S: Final = 0.5
_WAIT_S: Final = 5.0
_NEWS_EVERY_S: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0

logger = logging.getLogger(__name__)


def can_learn() -> bool:
    """Tell whether what training needs is installed."""
    return importlib.util.find_spec("torch") is not None


def learn(settings: Settings, lifeline: Lifeline) -> None:
    """Train and promote until a ranker serves, unless one ever did, and learn on from then, if ``[flywheel] learns``.

    A training that fails, or whose ranker is refused, is told, and tried again when there is as much again to learn
    from (`millrace.app.first_training`), whatever else of it serves. What is ended with the server is gone on with by
    the next one. Ends early if the supervisor says so, or is gone.
    """
    lifeline.say_ready()
    if not can_learn():
        if settings.config.flywheel.learns:
            logger.warning("nothing learns on: [flywheel] learns needs pip install -e '.[train]'")
        return
    with _at_work(settings):
        _learn_first(settings, lifeline)
        if settings.config.flywheel.learns:
            _learn_on(settings, lifeline)


@contextlib.contextmanager
def _at_work(settings: Settings) -> Iterator[None]:
    """Hold what says that a learner lives (`millrace.app.roles_beside`)."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with (settings.run_dir / LEARNER_LOCK).open("a") as file:
        with contextlib.suppress(BlockingIOError):  # one before us is about to end: it says the same
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        keep_failure(settings, None)
        yield


def with_learning(settings: Settings) -> Settings:
    """Return the same settings with ``[flywheel] learns``, unless they say themselves whether it does."""
    if "flywheel.learns" in settings.origin_by_key:
        return settings
    flywheel = msgspec.structs.replace(settings.config.flywheel, learns=True)
    above = (*settings.layers_above, Layer("demo", {"flywheel": {"learns": True}}))
    config = msgspec.structs.replace(settings.config, flywheel=flywheel)
    return replace(settings, config=config, layers_above=above)


def _learn_first(settings: Settings, lifeline: Lifeline) -> None:
    registry = wiring.build_registry(settings)

    def wait() -> bool:
        lifeline.wait(_WAIT_S)
        return not lifeline.should_stop()

    def say(why: str) -> None:
        logger.info("models: %s", why)
        keep_waiting(settings, why)

    try_until_it_serves(
        lambda: _train(settings, lifeline),
        lambda: needs_first_ranker(registry),
        lambda: why_to_wait(settings),
        wait,
        say,
    )
    nothing_waits(settings)


def try_until_it_serves(
    train: Callable[[], None],
    is_needed: Callable[[], bool],
    why_to_wait: Callable[[], str],
    wait: Callable[[], bool],
    say: Callable[[str], None],
) -> None:
    """Train until nothing is needed any more; no try while there is a reason to wait.

    Parameters
    ----------
    train
        Trains, and promotes what is worth it.
    is_needed
        Whether the first ranker is still to come.
    why_to_wait
        Why a try would be too early; empty: it would not.
    wait
        Lets time pass; returns whether to go on.
    say
        Hears each new reason.
    """
    told = ""
    while is_needed():
        why = why_to_wait()
        if not why:
            train()
        elif why != told:
            say(why)
        told = why
        if not wait():
            return


def _train(settings: Settings, lifeline: Lifeline) -> None:
    path, n_records, n_logged = settings.run_dir / _LOG_NAME, max(log_length(settings), 1), logged_pages(settings)
    code = _run(settings, lifeline, ("train", "--promote", "--json"), path, TrainingNews(settings).tell)
    if lifeline.should_stop():
        return
    if code:
        now_ms = wiring.build_clock().now_ms()
        failed = TrainingOutcome(ended_ms=now_ms, problem=f"{path} tells why", n_records=n_records, n_logged=n_logged)
        keep_outcome(settings, failed)
        logger.warning("the first models could not be trained (%s tells why): counters rank", path)
        return
    logger.info("%s", outcome(path))


def _learn_on(settings: Settings, lifeline: Lifeline) -> None:
    """Keep `millrace flywheel run` at work: one that fails is started again, later and later."""
    path, backoff = settings.run_dir / _ROUNDS_LOG_NAME, Backoff(wiring.build_clock(), _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    while not lifeline.should_stop():
        news = RoundNews(settings)

        def tell(news: RoundNews = news) -> None:
            news.tell()
            if news.n_told:
                keep_failure(settings, None)

        code = _run(settings, lifeline, ("flywheel", "run"), path, tell)
        if lifeline.should_stop():
            return
        keep_failure(settings, LearnerFailure(code=code, at_ms=wiring.build_clock().now_ms()))
        if news.n_told:
            backoff.succeed()
        pause_s = backoff.fail()
        logger.warning("what learns on ended with exit code %d (%s tells why); again in %.0f s", code, path, pause_s)
        while backoff.left_s and not lifeline.should_stop():
            lifeline.wait(_CHECK_S)


def _run(settings: Settings, lifeline: Lifeline, words: tuple[str, ...], path: Path, tell: Callable[[], None]) -> int:
    """Run one of our commands as a trainer, its output in a file; return its exit code. It ends when we are to end."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    run = "from millrace.app.cli import main; main()"  # the same Python, whether or not its scripts are on the path
    command = [sys.executable, "-c", run, *words]
    for key, value in pairs_above(settings):
        command += ["--set", f"{key}={value}"]
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as log:
        trainer = subprocess.Popen(  # noqa: S603 - our own command
            command,
            env={**os.environ, **threads, "OMP_WAIT_POLICY": "passive", HOME_VARIABLE: str(settings.home)},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_be_a_trainer,
        )
        try:
            while trainer.poll() is None and not lifeline.should_stop():
                lifeline.wait(_CHECK_S)
                tell()
        finally:
            if trainer.poll() is None:
                trainer.kill()
            trainer.wait()
    return trainer.returncode


class RoundNews:
    """Tells in the terminal what rounds of learning and new pre-rankers came to, once each.

    Parameters
    ----------
    settings
        The home, where the decisions and the distillations are.

    Attributes
    ----------
    n_told
        How many were told.
    """

    def __init__(self, settings: Settings) -> None:
        self._decisions, self._distillations = decision_log(settings), distillation_log(settings)
        self._n_distilled = len(self._distillations.all())
        self._size = self._bytes()
        self._number = max((each.number for each in self._decisions.newest(1)), default=0)
        self.n_told = 0

    def tell(self) -> None:
        """Say what is new."""
        if (size := self._bytes()) == self._size:
            return
        self._size = size
        for decision in self._decisions.all():
            if decision.number > self._number:
                logger.info("flywheel: round %d %s: %s", decision.number, decision.verdict, decision.why)
                self._number, self.n_told = decision.number, self.n_told + 1
        for made in self._distillations.all()[self._n_distilled :]:
            logger.info("flywheel: pre-ranker %s: %s", made.verdict, made.why)
            self._n_distilled, self.n_told = self._n_distilled + 1, self.n_told + 1

    def _bytes(self) -> int:
        paths = (self._decisions.path, self._distillations.path)
        return sum(path.stat().st_size for path in paths if path.exists())


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
