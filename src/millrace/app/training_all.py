"""`millrace train`: all models of the home feed from one reading of the log, published together, promoted if better."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from millrace.app import wiring
from millrace.app.distilling import Distilled, distil
from millrace.app.entropy_gain import EntropyGain
from millrace.app.evaluation import ShowProgress
from millrace.app.first_training import logged_pages
from millrace.app.home_vectors import make_vectors, sources_for, wanted_vectors, without_unfair
from millrace.app.kept import home_weights
from millrace.app.kept_samples import kept_candidates, kept_samples
from millrace.app.lessons import home_candidates
from millrace.app.model_publishing import promote, publish
from millrace.app.retrieval_training import TrainedRetrieval, train_home_retrieval
from millrace.app.seed_decision import note_seeded
from millrace.app.settings import Settings
from millrace.app.training import TrainedRanker, home_samples, train_home_ranker
from millrace.app.training_outcome import TrainingOutcome, keep_outcome
from millrace.app.training_run import TrainingRun, training_run
from millrace.base.errors import SourceDataError
from millrace.flywheel.sample_set import SampleSet
from millrace.registry.manifest import Kind

SERVED: Final = "served"

MAX_AUC_LOST: Final = 0.02
"""What a pre-ranker may lose of its ranker's AUC, in the mean over heads."""

logger = logging.getLogger(__name__)


class TrainedHome(msgspec.Struct, frozen=True, kw_only=True):
    """What `train_home` did.

    Attributes
    ----------
    retrieval
        None if too little was liked to learn from.
    vectors
        What was made for models to read.
    entropy_gain
        By how much the ranker's normalised entropy is lower than that of calibrated counters, in the mean over heads
        measured on pages it has never seen; above 0: it knows more.
    versions
        What was published, by kind.
    refused
        Why a kind is not to serve, by kind.
    promoted
        Kinds that serve now.
    """

    ranker: TrainedRanker
    retrieval: TrainedRetrieval | None
    pre_ranker: Distilled
    vectors: tuple[str, ...]
    entropy_gain: float
    versions: dict[Kind, str]
    refused: dict[Kind, str]
    promoted: tuple[Kind, ...]


def train_home(
    settings: Settings,
    show_progress: ShowProgress,
    *,
    hours: float | None = None,
    size: str = "nano",
    epochs: float = 3.0,
    seed: int = 1,
    promotes: bool = False,
    without: tuple[str, ...] = (),
    begins_anew: bool = False,
    replays: bool = False,
) -> TrainedHome:
    """Train ranker, retrieval and pre-ranker of a home, publish each, and let serve those that are worth it.

    Judged is on pages newer than all that a model learned from. A ranker must know more than counters; towers must
    find more than what is popular; a pre-ranker may lose `MAX_AUC_LOST`, and serves with its ranker alone. What is not
    worth it is published, and not promoted. A run that is killed is gone on with by the next one that is asked for the
    same (`millrace.app.training_run`): on its samples, behind the stages that it had finished. Before them the vectors
    are made that they read (`millrace.app.home_vectors.READS`) and carry with them.

    Parameters
    ----------
    settings
        The home; a running server goes on meanwhile, and follows what is promoted.
    show_progress
        Tells the person waiting.
    hours
        Newest hours that are learned from; None: all.
    size
        nano, small or large.
    epochs
        How often the ranker sees every page.
    seed
        Of first weights and of the order of pages.
    promotes
        Whether the models are to serve.
    without
        Vectors that are not made, and not read: ``semantic-ids``, ``social``.
    begins_anew
        Whether what an interrupted run has come to is forgotten.
    replays
        Whether every page is encoded anew from the log, logged features or not.

    Raises
    ------
    StoreError, SourceDataError
        If the log holds too few pages to learn a ranker from, another process trains this home's models, or an erasure
        forgot meanwhile what was read.
    ConfigError
        If a size or what is to be left out is not known.
    """
    from millrace.flywheel.train_pre_ranker import PreRankerTraining
    from millrace.flywheel.train_ranker import RankerTraining
    from millrace.flywheel.train_retrieval import RetrievalTraining
    from millrace.models.config import preset

    folder = settings.training_dir
    ranking = RankerTraining(trunk=preset(size), n_epochs=epochs, seed=seed)
    retrieving = RetrievalTraining(trunk=preset(size), seed=seed)
    distilling = PreRankerTraining(seed=seed)
    versions: dict[Kind, str] = {}
    n_logged = logged_pages(settings)

    def published(kind: Kind, training: msgspec.Struct, metrics: Mapping[str, float]) -> None:
        run.refuse_forgotten()
        # Of the same files and figures there is one version, however often they are published.
        served = folder / kind / SERVED
        versions[kind] = publish(settings, kind, served, samples.meta, metrics=metrics, training=training).version

    def by_transformer() -> TrainedRanker:
        sources = sources_for("ranker", vectors)
        return train_home_ranker(samples, ranking, folder / "ranker", show_progress, sources)

    def towers() -> TrainedRetrieval | None:
        try:
            sources = sources_for("retrieval", vectors)
            return train_home_retrieval(samples, retrieving, folder / "retrieval", show_progress, sources)
        except SourceDataError as error:  # a ranker needs no likes, towers do
            logger.warning("no retrieval: %s", error)
            return None

    def student() -> Distilled:
        return distil(
            samples,
            folder / "ranker",
            distilling,
            folder / "pre_ranker",
            show_progress,
            candidates,
            home_weights(settings),
        )

    wanted = wanted_vectors(without)
    options = {
        "hours": hours,
        "size": size,
        "epochs": epochs,
        "seed": seed,
        "vectors": list(wanted),
        "replays": replays,
    }
    with training_run(settings, options, begins_anew=begins_anew) as run:
        samples = kept_samples(
            run, lambda: home_samples(settings, show_progress, hours=hours, replays=replays, until=run.log_end)
        )
        # Now, not when the ranker is trained: hours later the warehouse may have let go of what pages are judged by.
        candidates = kept_candidates(
            run,
            lambda: home_candidates(
                settings, show_progress, hours=hours, from_ms=samples.meta.from_ms, until=run.log_end
            ),
        )
        vectors = make_vectors(run, settings, wanted, show_progress, hours=hours, seed=seed)
        vectors = without_unfair(vectors, samples, ranking.validation_frac)
        ranker = run.stage("ranker", TrainedRanker, by_transformer, folder / "ranker")
        published("ranker", ranking, ranker_metrics(ranker))
        retrieval = run.stage("retrieval", TrainedRetrieval | None, towers, folder / "retrieval")
        if retrieval is not None:
            published("retrieval", retrieving, retrieval_metrics(retrieval))
        pre_ranker = run.stage("pre_ranker", Distilled, student, folder / "pre_ranker")
        published("pre_ranker", distilling, pre_ranker_metrics(pre_ranker))
        gain = ranker.gain.value
        refused = reasons_against(ranker.gain, retrieval, pre_ranker)
        worthy: dict[Kind, str] = {kind: version for kind, version in versions.items() if kind not in refused}
        run.refuse_forgotten()
        if promotes and worthy:
            before = wiring.build_registry(settings).serving().get("ranker", "")
            promote(settings, worthy, f"trained on {ranker.n_slates:,} pages; entropy {gain:+.3f} against counters")
            if "ranker" in worthy:
                note_seeded(settings, ranker, worthy["ranker"], before)
    promoted = tuple(worthy) if promotes else ()
    came_to = TrainingOutcome(
        ended_ms=wiring.build_clock().now_ms(),
        n_pages=ranker.n_slates,
        asked_to_serve=promotes,
        promoted=promoted,
        refused={str(kind): why for kind, why in refused.items()},
        n_records=run.log_end,
        n_logged=n_logged,
    )
    keep_outcome(settings, came_to)
    return TrainedHome(
        ranker=ranker,
        retrieval=retrieval,
        pre_ranker=pre_ranker,
        vectors=tuple(vectors),
        entropy_gain=gain,
        versions=versions,
        refused=refused,
        promoted=promoted,
    )


def reasons_against(gain: EntropyGain, retrieval: TrainedRetrieval | None, pre_ranker: Distilled) -> dict[Kind, str]:
    """Return why models are not to serve, by kind; see `train_home`."""
    reasons: dict[Kind, str] = {}
    if not gain.low > 0.0:
        reasons["ranker"] = (
            f"refused: its entropy is {_beside(gain.value)} than that of calibrated counters "
            f"({_span(gain)}), so it is not sure to know more"
        )
        reasons["pre_ranker"] = "refused: its ranker does not serve"
    elif (too_much := reason_against_student(pre_ranker)) is not None:
        reasons["pre_ranker"] = too_much
    if retrieval is None:
        reasons["retrieval"] = "not trained: too little was liked to learn from"
        return reasons
    k = max(retrieval.held_out["towers"].at)
    found, popular = (retrieval.held_out[name].at[k] for name in ("towers", "popularity"))
    if found <= popular:
        reasons["retrieval"] = (
            f"refused: finds {found:.3f} of what was wanted among {k}, no more than what is popular, {popular:.3f}"
        )
    return reasons


def reason_against_student(pre_ranker: Distilled) -> str | None:
    """Return why a pre-ranker is not to serve beside its ranker; None: it is."""
    if pre_ranker.auc_lost <= MAX_AUC_LOST:
        return None
    return f"refused: loses {pre_ranker.auc_lost:.3f} of its ranker's AUC, at most {MAX_AUC_LOST}"


def _span(gain: EntropyGain) -> str:
    """Return the entropies that nine of ten such trainings lie between, the lowest first."""
    if not math.isfinite(gain.low):
        return "by how much, too few pages tell"
    return f"between {_beside(2 * gain.value - gain.low)} and {_beside(gain.low)}"


def _beside(gain: float) -> str:
    return f"{abs(gain):.4f} {'lower' if gain > 0 else 'higher'}"


def ranker_metrics(trained: TrainedRanker) -> dict[str, float]:
    """Return a ranker's figures as a manifest keeps them."""
    found = {
        "validation_loss": trained.validation_loss,
        "entropy_gain": trained.gain.value,
        "entropy_gain_low": trained.gain.low,
    }
    for head in trained.held_out:
        found[f"auc/{head.action}"] = head.auc
        found[f"normalised_entropy/{head.action}"] = head.normalised_entropy
        found[f"calibration/{head.action}"] = head.calibration
    return found


def retrieval_metrics(trained: TrainedRetrieval) -> dict[str, float]:
    """Return the towers' figures as a manifest keeps them."""
    return {f"recall_{k}": value for k, value in trained.held_out["towers"].at.items()}


def pre_ranker_metrics(distilled: Distilled) -> dict[str, float]:
    """Return a pre-ranker's figures as a manifest keeps them."""
    found = {"auc_lost": distilled.auc_lost, "speed_up": distilled.speed_up}
    for name, share in (("kept_50", distilled.kept.kept_50), ("kept_500", distilled.kept.kept_500)):
        found.update({name: share.value, f"{name}_low": share.low, f"{name}_high": share.high})
    return found


def let_serve(
    settings: Settings,
    run: TrainingRun,
    kind: Kind,
    folder: Path,
    samples: SampleSet,
    metrics: Mapping[str, float],
    training: msgspec.Struct,
) -> str:
    """Publish what a training left in a folder, promote it, and return its version.

    Raises
    ------
    StoreError
        If an erasure forgot meanwhile what it was made of.
    """
    run.refuse_forgotten()
    manifest = publish(settings, kind, folder / SERVED, samples.meta, metrics=metrics, training=training)
    promote(settings, {kind: manifest.version}, f"trained on {len(samples):,} pages")
    return manifest.version
