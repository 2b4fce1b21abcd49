"""What a bare `millrace train` makes before its models, for them to read: semantic ids of posts, vectors of users."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

from millrace.app.held_out import held_out
from millrace.app.vector_training import (
    TrainedSemanticIds,
    TrainedSocial,
    train_home_semantic_ids,
    train_home_social,
)
from millrace.base.errors import ConfigError, SourceDataError, StoreError
from millrace.features.encoding.vector_sources import VectorSources
from millrace.features.social_history import SocialHistory
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_semantic_ids import SemanticIdConfig
from millrace.registry.manifest import Kind

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.app.settings import Settings
    from millrace.app.training_run import TrainingRun

VectorName = Literal["semantic-ids", "social"]

READS: Final[Mapping[Kind, tuple[VectorName, ...]]] = {"ranker": (), "retrieval": ("semantic-ids",)}
"""Which vectors models of a bare `millrace train` read. What no model reads is not made.

The ranker reads none: held against the truth it was no better with them (docs/performance.md). It can read both:
`millrace train ranker --semantic-ids FOLDER --social FOLDER`.
"""

T = TypeVar("T")

logger = logging.getLogger(__name__)


def wanted_vectors(without: tuple[str, ...]) -> tuple[VectorName, ...]:
    """Return the vectors that models read, but some.

    Raises
    ------
    ConfigError
        If one of those left out is not known.
    """
    names = get_args(VectorName)
    for name in without:
        if name not in names:
            raise ConfigError(
                "--without", value=name, problem="not what models read", remedy=f"use some of {', '.join(names)}"
            )
    read = {name for kind in READS.values() for name in kind}
    return tuple(name for name in names if name in read and name not in without)


def make_vectors(
    run: TrainingRun,
    settings: Settings,
    wanted: tuple[VectorName, ...],
    show_progress: ShowProgress,
    *,
    hours: float | None,
    seed: int,
) -> dict[VectorName, Path]:
    """Make vectors of a home as its log is where the run began; return the folders of those that could be made.

    A home may be too small for them: too few posts, or nobody who follows anybody. A line says so, and that is known
    to whoever goes on with the run. Where a store fails, a line says that; whoever goes on tries again, unless a ranker
    has been trained without meanwhile.
    """
    found: dict[VectorName, Path] = {}

    def semantic_ids(folder: Path) -> TrainedSemanticIds:
        config = SemanticIdConfig(seed=seed)
        return train_home_semantic_ids(settings, config, folder, show_progress, until=run.log_end)

    def social(folder: Path) -> TrainedSocial:
        from millrace.flywheel.train_social import SocialTraining
        from millrace.models.social import SocialConfig

        training = SocialTraining(encoder=SocialConfig(seed=seed))
        return train_home_social(settings, training, folder, show_progress, hours=hours, until=run.log_end)

    if "semantic-ids" in wanted and _is_made(run, settings, "semantic-ids", TrainedSemanticIds, semantic_ids):
        found["semantic-ids"] = settings.training_dir / "semantic-ids"
    if "social" in wanted and _is_made(run, settings, "social", TrainedSocial, social):
        found["social"] = settings.training_dir / "social"
    return found


def without_unfair(folders: Mapping[VectorName, Path], samples: SampleSet, frac: float) -> dict[VectorName, Path]:
    """Return the folders that a ranker may read: no social encoder that knows follows of the pages held out.

    Parameters
    ----------
    folders
        Of `make_vectors`.
    samples
        Pages.
    frac
        The newest share of them is held out.
    """
    fair = dict(folders)
    if "social" in fair:
        judged_from_ms = int(samples.now_ms[held_out(samples, frac).chosen_by].min(initial=2**62))
        if SocialHistory.load(fair["social"]).learned_until_ms > judged_from_ms:
            logger.warning("no social vectors: too few pages to tell newer follows from those that are learned from")
            del fair["social"]
    return fair


def sources_for(kind: Kind, folders: Mapping[VectorName, Path]) -> VectorSources:
    """Return what a kind of model reads of some vectors."""
    semantic_ids, social = (folders.get(name) if name in READS[kind] else None for name in get_args(VectorName))
    return VectorSources.open(semantic_ids, social)


def _is_made(run: TrainingRun, settings: Settings, name: VectorName, kind: type[T], train: Callable[[Path], T]) -> bool:
    """Make vectors into the home's folder of that name; return whether they are there."""
    if run.has_finished("ranker") and not run.has_finished(name):
        return False  # it was trained without: towers and pre-ranker go with it
    folder = settings.training_dir / name

    def or_none() -> T | None:
        try:
            return train(folder)
        except SourceDataError as error:
            logger.warning("no %s: too little to learn from: %s", name, error)
            return None

    try:
        return run.stage(name, kind | None, or_none, folder) is not None
    except StoreError as error:
        run.refuse_forgotten()
        logger.warning("%s cannot be made now, models go without: %s", name, error)
        return False
