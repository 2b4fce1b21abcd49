"""`millrace flywheel run`: the learning loop over a home, round after round, beside a server or without one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from millrace.app import wiring
from millrace.app.first_training import log_length, logged_pages, needs_first_ranker, why_to_wait
from millrace.app.flywheel_source import sample_source
from millrace.app.learning_note import keep_waiting, nothing_waits
from millrace.app.settings import Settings
from millrace.app.student_renewal import renew_student
from millrace.app.training_outcome import TrainingOutcome, keep_outcome
from millrace.app.training_run import training_lock
from millrace.app.training_status import telling
from millrace.base.errors import NoSamplesError, SourceDataError, StoreError
from millrace.features.encoding.languages import language_row
from millrace.flywheel.decisions import DECISIONS_FILE, Decision, DecisionLog
from millrace.flywheel.learning_round import RoundFolder, Waiting

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.flywheel.distillations import Distillation
    from millrace.registry.registry import Registry

_FOLDER: Final = "unfinished-flywheel"
"""Within the trainings' folder, and named so that an erasure removes it with what else is unfinished."""
_SHARE: Final = 0.25
"""Of a round: how far event time must have gone before what was not known yet is looked for again."""
_LANGUAGES: Final = ("en", "de", "es", "fr", "ja", "pt", "ar", "hi", "zh", "ru", "tr", "ko", "it", "nl", "pl", "id")

logger = logging.getLogger(__name__)


def decision_log(settings: Settings) -> DecisionLog:
    """Return the decisions of a home; they lie beside the registry's history, and in its backups."""
    return DecisionLog(settings.models_dir / DECISIONS_FILE)


def round_folder(settings: Settings) -> Path:
    """Return where an unfinished round keeps what it has come to."""
    return settings.training_dir / _FOLDER


def learn_once(settings: Settings, show_progress: ShowProgress) -> Decision | Waiting:
    """Do one round of a home, or the first training where no ranker has ever served.

    Raises
    ------
    StoreError
        If another process trains this home's models, or something cannot be read.
    """
    from millrace.flywheel.loop import LearningLoop

    registry, learning = wiring.build_registry(settings), settings.config.flywheel.learning
    if "ranker" not in registry.serving():
        return _seeded(settings, registry, show_progress)
    hours = learning.max_hours + learning.replay_hours
    with training_lock(settings), sample_source(settings, show_progress, hours=hours) as source:
        loop = LearningLoop(
            registry,
            source,
            decision_log(settings),
            RoundFolder(round_folder(settings)),
            learning,
            settings.config.flywheel.gate,
            wiring.build_clock(),
            show_progress,
            language_names={language_row(name): name for name in _LANGUAGES},
        )
        return loop.run_round()


def keep_learning(
    settings: Settings,
    show_progress: ShowProgress,
    wait: Callable[[float], bool],
    tell: Callable[[Decision | Waiting | Distillation], None],
) -> None:
    """Do rounds as their hours come, and distil the pre-ranker anew when it is time, until told to end.

    Hours that pass while a round is at work are of the next one: a slow machine does fewer and larger rounds.

    Parameters
    ----------
    settings, show_progress
        As of `learn_once`.
    wait
        Lets seconds pass; returns whether to go on.
    tell
        Hears of every round, of every new pre-ranker, and of every new reason to wait.
    """
    learning = settings.config.flywheel.learning
    step_ms = int(learning.hours_per_round * 3_600_000 * _SHARE)
    due_ms, told, told_of_student = 0, "", ""
    while True:
        now_ms = wiring.build_event_clock(settings).now_ms()
        if now_ms >= due_ms:
            with telling(settings, show_progress) as shown:  # of each by itself: between them nothing is at work
                found = _round_or_reason(settings, shown)
            due_ms = max(found.until_ms, now_ms + step_ms) if isinstance(found, Waiting) else 0
            if found.why != told:
                tell(found)
            told = found.why
            if isinstance(found, Waiting):
                keep_waiting(settings, found.why)
            else:
                nothing_waits(settings)
            with telling(settings, show_progress) as shown:
                student = _student_or_reason(settings, shown)
            if student is not None and student.why != told_of_student:
                tell(student)
            told_of_student = student.why if student is not None else ""
        if not wait(learning.poll_s):
            return


def _round_or_reason(settings: Settings, show_progress: ShowProgress) -> Decision | Waiting:
    try:
        return learn_once(settings, show_progress)
    except StoreError as error:  # another one trains, say: what is wrong for long is told once
        return Waiting(until_ms=0, why=str(error))


def _student_or_reason(settings: Settings, show_progress: ShowProgress) -> Distillation | Waiting | None:
    try:
        return renew_student(settings, show_progress)
    except StoreError as error:
        return Waiting(until_ms=0, why=f"the pre-ranker is to be distilled anew: {error}")


def _seeded(settings: Settings, registry: Registry, show_progress: ShowProgress) -> Decision | Waiting:
    """Train the first models from all that the log holds, and let those serve that are worth it.

    Not where a ranker served before and was taken back: whoever did that decides what follows.
    """
    from millrace.app.training_all import train_home

    if not needs_first_ranker(registry):
        return Waiting(until_ms=0, why="the ranker was taken out of service; millrace train --promote lets one serve")
    if why := why_to_wait(settings):
        return Waiting(until_ms=0, why=f"{why} (millrace train --promote: at once)")
    n_records, n_logged = max(log_length(settings), 1), logged_pages(settings)
    try:
        trained = train_home(settings, show_progress, promotes=True)
    except (SourceDataError, NoSamplesError) as error:
        now_ms = wiring.build_clock().now_ms()
        failed = TrainingOutcome(ended_ms=now_ms, problem=str(error), n_records=n_records, n_logged=n_logged)
        keep_outcome(settings, failed)
        return Waiting(until_ms=0, why=f"too little to learn from: {error}")
    if "ranker" not in trained.promoted:
        return Waiting(until_ms=0, why=why_to_wait(settings))
    return decision_log(settings).newest(1)[0]
