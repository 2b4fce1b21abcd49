"""`millrace train`: all models of the home feed from one reading of the log, published together, promoted if better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from millrace.app.distilling import Distilled, distil
from millrace.app.lessons import home_candidates
from millrace.app.model_publishing import promote, publish
from millrace.app.retrieval_training import TrainedRetrieval, train_home_retrieval
from millrace.app.settings import Settings
from millrace.app.training import HeadFigures, ShowProgress, TrainedRanker, home_samples, train_home_ranker
from millrace.flywheel.sample_set import SampleSet
from millrace.registry.manifest import Kind

SERVED: Final = "served"


class TrainedHome(msgspec.Struct, frozen=True, kw_only=True):
    """What `train_home` did.

    Attributes
    ----------
    entropy_gain
        By how much the ranker's normalised entropy is lower than that of calibrated counters, in the mean over heads
        measured on pages it has never seen; above 0: it knows more.
    versions
        What was published, by kind.
    is_promoted
        Whether that serves now.
    """

    ranker: TrainedRanker
    retrieval: TrainedRetrieval
    pre_ranker: Distilled
    entropy_gain: float
    versions: dict[Kind, str]
    is_promoted: bool


def train_home(
    settings: Settings,
    show_progress: ShowProgress,
    *,
    hours: float | None = None,
    size: str = "nano",
    epochs: float = 3.0,
    seed: int = 1,
    promotes: bool = False,
) -> TrainedHome:
    """Train retrieval, ranker and pre-ranker of a home, publish them, and let them serve if the ranker is worth it.

    A ranker that knows less than counters on pages newer than all it learned from is published, and never promoted.

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
    """
    from millrace.flywheel.train_pre_ranker import PreRankerTraining
    from millrace.flywheel.train_ranker import RankerTraining
    from millrace.flywheel.train_retrieval import RetrievalTraining
    from millrace.models.config import preset

    folder = settings.data_dir / "training"
    samples = home_samples(settings, show_progress, hours=hours)
    ranking = RankerTraining(trunk=preset(size), n_epochs=epochs, seed=seed)
    ranker = train_home_ranker(samples, ranking, folder / "ranker", show_progress)
    retrieving = RetrievalTraining(trunk=preset(size), seed=seed)
    retrieval = train_home_retrieval(samples, retrieving, folder / "retrieval", show_progress)
    distilling = PreRankerTraining(seed=seed)
    candidates = home_candidates(settings, show_progress, from_ms=samples.meta.from_ms)
    pre_ranker = distil(samples, folder / "ranker", distilling, folder / "pre_ranker", show_progress, candidates)
    trainings: dict[Kind, msgspec.Struct] = {"ranker": ranking, "retrieval": retrieving, "pre_ranker": distilling}
    figures: dict[Kind, dict[str, float]] = {
        "ranker": ranker_metrics(ranker),
        "retrieval": retrieval_metrics(retrieval),
        "pre_ranker": pre_ranker_metrics(pre_ranker),
    }
    versions = _published(settings, folder, samples, figures, trainings)
    gain = entropy_gain(ranker.held_out)
    is_promoted = promotes and gain > 0.0
    if is_promoted:
        promote(settings, versions, f"trained on {ranker.n_slates:,} pages; entropy {gain:+.3f} against counters")
    return TrainedHome(
        ranker=ranker,
        retrieval=retrieval,
        pre_ranker=pre_ranker,
        entropy_gain=gain,
        versions=versions,
        is_promoted=is_promoted,
    )


def entropy_gain(heads: tuple[HeadFigures, ...]) -> float:
    """Return by how much the normalised entropy is lower than the counters', in the mean over heads; 0 for none."""
    gains = [head.counters_normalised_entropy - head.normalised_entropy for head in heads]
    return sum(gains) / len(gains) if gains else 0.0


def ranker_metrics(trained: TrainedRanker) -> dict[str, float]:
    """Return a ranker's figures as a manifest keeps them."""
    found = {"validation_loss": trained.validation_loss, "entropy_gain": entropy_gain(trained.held_out)}
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
    return {"auc_lost": distilled.auc_lost, "speed_up": distilled.speed_up}


def let_serve(
    settings: Settings,
    kind: Kind,
    folder: Path,
    samples: SampleSet,
    metrics: Mapping[str, float],
    training: msgspec.Struct,
) -> str:
    """Publish what a training left in a folder, promote it, and return its version."""
    manifest = publish(settings, kind, folder / SERVED, samples.meta, metrics=metrics, training=training)
    promote(settings, {kind: manifest.version}, f"trained on {len(samples):,} pages")
    return manifest.version


def _published(
    settings: Settings,
    folder: Path,
    samples: SampleSet,
    figures: Mapping[Kind, Mapping[str, float]],
    trainings: Mapping[Kind, msgspec.Struct],
) -> dict[Kind, str]:
    found: dict[Kind, str] = {}
    for kind, training in trainings.items():
        served = folder / kind / SERVED
        manifest = publish(settings, kind, served, samples.meta, metrics=figures[kind], training=training)
        found[kind] = manifest.version
    return found
