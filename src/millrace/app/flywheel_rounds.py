"""`millrace flywheel run`: the learning loop over a home, round after round, beside a server or without one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from millrace.app import wiring
from millrace.app.flywheel_source import sample_source
from millrace.app.settings import Settings
from millrace.app.training_run import training_lock
from millrace.base.errors import NothingSeenError, SourceDataError, StoreError
from millrace.features.encoding.languages import language_row
from millrace.flywheel.decisions import DECISIONS_FILE, Decision, DecisionLog, HeadMetrics
from millrace.flywheel.learning_round import RoundFolder, Waiting

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.app.training_all import TrainedHome
    from millrace.registry.registry import Registry

_FOLDER: Final = "unfinished-flywheel"
"""Within the trainings' folder, and named so that an erasure removes it with what else is unfinished."""
_SHARE: Final = 0.25
"""Of a round: how far event time must have gone before what was not known yet is looked for again."""
_SEED_AGAIN_MS: Final = 6 * 3_600_000
"""Event time between first trainings whose ranker is refused: little new cannot change that, and all is read anew."""
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
    tell: Callable[[Decision | Waiting], None],
) -> None:
    """Do rounds as their hours come, until told to end.

    Hours that pass while a round is at work are of the next one: a slow machine does fewer and larger rounds.

    Parameters
    ----------
    settings, show_progress
        As of `learn_once`.
    wait
        Lets seconds pass; returns whether to go on.
    tell
        Hears of every round, and of every new reason to wait.
    """
    learning = settings.config.flywheel.learning
    step_ms = int(learning.hours_per_round * 3_600_000 * _SHARE)
    due_ms, told = 0, ""
    while True:
        now_ms = wiring.build_event_clock(settings).now_ms()
        if now_ms >= due_ms:
            found = _round_or_reason(settings, show_progress)
            due_ms = max(found.until_ms, now_ms + step_ms) if isinstance(found, Waiting) else 0
            words = found.why
            if words != told:
                tell(found)
            told = words
        if not wait(learning.poll_s):
            return


def _round_or_reason(settings: Settings, show_progress: ShowProgress) -> Decision | Waiting:
    try:
        return learn_once(settings, show_progress)
    except StoreError as error:  # another one trains, say: what is wrong for long is told once
        return Waiting(until_ms=0, why=str(error))


def _seeded(settings: Settings, registry: Registry, show_progress: ShowProgress) -> Decision | Waiting:
    """Train the first models from all that the log holds, and let those serve that are worth it.

    Not where a ranker served before and was taken back: whoever did that decides what follows.
    """
    from millrace.app.training_all import train_home

    if any("ranker" in change.versions for change in registry.history()):
        return Waiting(until_ms=0, why="the ranker was taken out of service; millrace train --promote lets one serve")
    try:
        trained = train_home(settings, show_progress, promotes=True)
    except (SourceDataError, NothingSeenError) as error:
        return Waiting(until_ms=0, why=f"too little to learn from: {error}")
    if "ranker" not in trained.promoted:
        again_ms = wiring.build_event_clock(settings).now_ms() + _SEED_AGAIN_MS
        return Waiting(until_ms=again_ms, why=trained.refused.get("ranker", "the first ranker does not serve"))
    decisions, version = decision_log(settings), trained.versions["ranker"]
    manifest = registry.manifest("ranker", version)
    last = decisions.newest(1)
    decision = Decision(
        number=1 + (last[0].number if last else 0),
        at_ms=wiring.build_clock().now_ms(),
        from_ms=manifest.from_ms,
        until_ms=manifest.until_ms,
        verdict="seeded",
        why=f"the first models, trained on {trained.ranker.n_slates:,} pages: entropy {trained.entropy_gain:+.4f} "
        "against calibrated counters",
        n_pages=trained.ranker.n_slates,
        n_rows=trained.ranker.n_rows,
        n_learned=trained.ranker.n_slates,
        n_steps=trained.ranker.n_steps,
        best_step=trained.ranker.best_step,
        to_version=version,
        prequential=_of_seed(trained),
    )
    with contextlib.suppress(OSError):
        decisions.append(decision)
    return decision


def _of_seed(trained: TrainedHome) -> tuple[HeadMetrics, ...]:
    return tuple(
        HeadMetrics(
            action=head.action,
            n_positive=head.n_held_out,
            auc=head.auc,
            normalised_entropy=head.normalised_entropy,
            calibration=head.calibration,
        )
        for head in trained.ranker.held_out
    )
