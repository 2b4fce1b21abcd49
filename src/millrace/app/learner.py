"""The learner of a demo: it trains the first models while the feed serves without, and promotes them when ready.

A child of the supervisor, of the lowest priority. Training is a process of its own: what it needs (torch) never enters
the server, and what it leaves behind goes with it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from typing import Final

from millrace.app import wiring
from millrace.app.lifeline import Lifeline
from millrace.app.settings import HOME_VARIABLE, Settings

_NICENESS: Final = 15
_LOG_NAME: Final = "training.log"
_CHECK_S: Final = 0.5

logger = logging.getLogger(__name__)


def can_learn() -> bool:
    """Tell whether what training needs is installed."""
    return importlib.util.find_spec("torch") is not None


def learn(settings: Settings, lifeline: Lifeline) -> None:
    """Train and promote, unless models serve already; then wait until the supervisor ends this process, or is gone."""
    lifeline.say_ready()
    if can_learn() and not wiring.build_registry(settings).serving():
        _train(settings, lifeline)
    while not lifeline.should_stop():
        lifeline.wait(_CHECK_S)


def _train(settings: Settings, lifeline: Lifeline) -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    run = "from millrace.app.cli import main; main()"  # the same Python, whether or not its scripts are on the path
    command = [sys.executable, "-c", run, "train", "--promote", "--json"]
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with (settings.run_dir / _LOG_NAME).open("wb") as log:
        trainer = subprocess.Popen(  # noqa: S603 - our own command
            command,
            env={**os.environ, **threads, "OMP_WAIT_POLICY": "passive", HOME_VARIABLE: str(settings.home)},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(_NICENESS),
        )
        try:
            while trainer.poll() is None and not lifeline.should_stop():
                lifeline.wait(_CHECK_S)
        finally:
            if trainer.poll() is None:
                trainer.kill()
            trainer.wait()
    if trainer.returncode and not lifeline.should_stop():
        logger.warning("the first models could not be trained (%s tells why): counters rank", log.name)
