"""The pre-ranker is distilled anew from the ranker that serves, after every so many rankers that were promoted.

`[flywheel.learning] distils_every` says how many. The new student is judged as `millrace train --promote` judges one,
by what it lacks of its ranker's AUC, on pages that no ranker has learned from: those that earlier rounds were judged
on, and those since. It learns from none of these that are as new, nor from hours that nobody trusts.

What came of it is a line in ``distillations.jsonl``, written before the registry's pointer moves: whoever is killed
between the two carries it out at the next start. Killed before, the student goes on from its checkpoint, on the pages
that were read (`millrace.app.training_run`), unless another ranker serves meanwhile; then it begins anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from millrace.app import wiring
from millrace.app.flywheel_source import sample_source
from millrace.app.kept import home_weights
from millrace.app.kept_samples import kept_candidates
from millrace.app.lessons import home_candidates
from millrace.app.model_publishing import publish
from millrace.app.settings import Settings
from millrace.app.training_run import TrainingRun, training_lock, training_run
from millrace.base.errors import ConfigError, SchemaError, SourceDataError
from millrace.flywheel.decisions import DECISIONS_FILE, DecisionLog
from millrace.flywheel.distillations import DISTILLATIONS_FILE, Distillation, DistillationLog, rankers_since
from millrace.flywheel.round_pages import HOUR_MS, is_within, judged_spans, sampled, untrusted_spans
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.student_pages import student_pages
from millrace.registry.errors import RegistryError
from millrace.registry.pointer import DEFAULT_LANE

if TYPE_CHECKING:
    from millrace.app.distilling import Distilled
    from millrace.app.evaluation import ShowProgress
    from millrace.flywheel.learning_round import SampleSource
    from millrace.flywheel.logged_samples import LoggedCandidates
    from millrace.flywheel.train_pre_ranker import PreRankerTraining
    from millrace.registry.manifest import Kind
    from millrace.registry.registry import Registry

    OpenSource = Callable[..., AbstractContextManager[SampleSource]]

_NAME: Final = "renewed-pre-ranker"

logger = logging.getLogger(__name__)


def distillation_log(settings: Settings) -> DistillationLog:
    """Return the distillations of a home; they lie beside the registry's history, and in its backups."""
    return DistillationLog(settings.models_dir / DISTILLATIONS_FILE)


def renew_student(
    settings: Settings,
    show_progress: ShowProgress,
    *,
    open_source: OpenSource = sample_source,
    training: PreRankerTraining | None = None,
) -> Distillation | None:
    """Distil the pre-ranker of a home anew if it is time, or carry out what was decided; None: there is nothing to do.

    Not where a pre-ranker served before and was taken out of service: whoever did that decides what follows.

    Parameters
    ----------
    settings
        The home.
    show_progress
        Tells the person waiting.
    open_source
        What gives the pages.
    training
        How; None: as `millrace train` does.

    Raises
    ------
    StoreError
        If another process trains this home's models, there are no pages, or an erasure forgot what was read.
    """
    registry, log = wiring.build_registry(settings), distillation_log(settings)
    if (begun := _unfinished(registry, log)) is not None:
        with training_lock(settings):
            return _carried_out(begun, registry, log)
    if not _is_due(settings, registry, log):
        return None
    pointer = registry.pointer()
    serial = pointer.change.serial if pointer else 0
    ranker = registry.serving()["ranker"]
    with training_run(settings, {"ranker": ranker}, name=_NAME) as run:
        decided = _decided(settings, run, registry, show_progress, open_source, training)
        numbers = [each.number for each in log.all()]
        decided = msgspec.structs.replace(decided, number=1 + max(numbers, default=0), serial=serial)
        run.refuse_forgotten()
        log.append(decided)
        return _carried_out(decided, registry, log)


def _is_due(settings: Settings, registry: Registry, log: DistillationLog) -> bool:
    every, serving = settings.config.flywheel.learning.distils_every, registry.serving()
    if not every or "ranker" not in serving or settings.config.home.pre_ranker:
        return False
    history = registry.history()
    if "pre_ranker" not in serving and any("pre_ranker" in change.versions for change in history):
        return False
    told = log.all()
    void = {each.to_version for each in told if each.verdict == "void"}  # and what was to serve, and never did
    serial = max((each.serial for each in told if not each.to_version or each.to_version not in void), default=0)
    return rankers_since(history, serial) >= every


def _unfinished(registry: Registry, log: DistillationLog) -> Distillation | None:
    """Return the last distillation if its student was to serve and never did; None otherwise."""
    last = log.all()[-1:]
    if not last or last[0].verdict != "promoted":
        return None
    is_done = any(
        change.serial > last[0].serial
        and (change.what, change.lane) == ("promoted", DEFAULT_LANE)
        and change.versions.get("pre_ranker") == last[0].to_version
        for change in registry.history()
    )
    return None if is_done else last[0]


def _carried_out(decided: Distillation, registry: Registry, log: DistillationLog) -> Distillation:
    """Let the student serve if that was decided; if something else serves by now than it was judged beside, say so."""
    if decided.verdict == "promoted":
        judged_beside: dict[Kind, str] = {"ranker": decided.ranker}
        if decided.from_version:
            judged_beside["pre_ranker"] = decided.from_version
        try:
            registry.promote(
                {"pre_ranker": decided.to_version},
                DEFAULT_LANE,
                now_ms=wiring.build_clock().now_ms(),
                note=f"flywheel: {decided.why}",
                instead_of=judged_beside,
            )
        except RegistryError as error:
            decided = msgspec.structs.replace(decided, number=decided.number + 1, verdict="void", why=str(error))
            log.append(decided)
    logger.info("flywheel: pre-ranker %s: %s", decided.verdict, decided.why)
    return decided


def _decided(
    settings: Settings,
    run: TrainingRun,
    registry: Registry,
    show_progress: ShowProgress,
    open_source: OpenSource,
    training: PreRankerTraining | None,
) -> Distillation:
    """Read pages, distil, judge, and publish what is worth it."""
    from millrace.app.distilling import Distilled, Teacher, distil_from
    from millrace.app.training_all import SERVED, pre_ranker_metrics, reason_against_student
    from millrace.flywheel.live_ranker import open_live_ranker
    from millrace.flywheel.train_pre_ranker import PreRankerTraining

    learning, serving = settings.config.flywheel.learning, registry.serving()
    hours, teacher = learning.max_hours + learning.replay_hours, registry.folder("ranker", serving["ranker"])
    decisions = DecisionLog(settings.models_dir / DECISIONS_FILE).all()
    withdrawn = frozenset(version for kind, version in registry.withdrawn() if kind == "ranker")
    unlearned_ms = registry.manifest("ranker", serving["ranker"]).until_ms
    training = training or PreRankerTraining(seed=learning.seed)
    folder, pages = run.folder / "student", run.folder / "samples"

    def read() -> int:
        with open_source(settings, show_progress, hours=hours) as source:
            until_ms = source.known_until_ms
            samples = source.samples(max(until_ms - int(hours * HOUR_MS), 0), until_ms)
        learned, measured = student_pages(
            samples.now_ms, decisions, withdrawn, unlearned_ms, training.validation_frac / 2
        )
        rng = np.random.default_rng(learning.seed)
        kept = learned[sampled(len(learned), learning.max_pages + learning.max_replay_pages, rng)]
        samples.take(kept).joined(samples.take(measured)).save(pages)
        return len(measured)

    def read_candidates() -> LoggedCandidates | None:
        from_ms = int(samples.now_ms.min())
        found = home_candidates(settings, show_progress, hours=hours, from_ms=from_ms, until=run.log_end)
        if found is None:
            return None
        is_left_out = is_within(
            found.samples.now_ms, [*judged_spans(decisions), *untrusted_spans(decisions, withdrawn)]
        )
        return found.taken(np.flatnonzero(~is_left_out))

    def student() -> Distilled:
        model = Teacher(open_live_ranker(teacher, samples.meta.schema), teacher)
        # Half a page more than the share of twice the measured ones: `held_out` rounds down.
        frac = (2 * n_measured + 1) / len(samples)
        how = msgspec.structs.replace(training, validation_frac=frac)
        return distil_from(model, samples, how, folder, show_progress, candidates, home_weights(settings))

    told = Distillation(
        number=0,
        serial=0,
        at_ms=wiring.build_clock().now_ms(),
        from_ms=0,
        until_ms=0,
        verdict="refused",
        why="",
        ranker=serving["ranker"],
        from_version=serving.get("pre_ranker", ""),
    )
    try:
        n_measured = run.stage("pages", int, read, pages)
        samples = SampleSet.load(pages)
        candidates = kept_candidates(run, read_candidates)
        distilled = run.stage("pre_ranker", Distilled, student, folder)
    except (ConfigError, SchemaError, SourceDataError) as error:  # it would fail just so the next time
        return msgspec.structs.replace(told, why=f"not distilled: {error}")
    from_ms, until_ms = int(samples.now_ms.min()), int(samples.now_ms.max()) + 1
    told = msgspec.structs.replace(
        told,
        from_ms=from_ms,
        until_ms=until_ms,
        n_pages=len(samples) - n_measured,
        n_measured=n_measured,
        auc_lost=distilled.auc_lost,
        kept_500=distilled.kept.kept_500.value,
    )
    if not distilled.held_out:
        return msgspec.structs.replace(told, why=f"refused: no action was done often enough on {n_measured:,} pages")
    if (reason := reason_against_student(distilled)) is not None:
        return msgspec.structs.replace(told, why=reason)
    run.refuse_forgotten()
    meta = msgspec.structs.replace(samples.meta, from_ms=from_ms, until_ms=until_ms)
    version = publish(
        settings, "pre_ranker", folder / SERVED, meta, metrics=pre_ranker_metrics(distilled), training=training
    ).version
    if ("pre_ranker", version) in registry.withdrawn():
        return msgspec.structs.replace(told, why=f"refused: {version} was withdrawn before")
    why = f"distilled anew from ranker {told.ranker}: loses {distilled.auc_lost:.3f} of its AUC on {n_measured:,} pages"
    return msgspec.structs.replace(told, verdict="promoted", to_version=version, why=why)
