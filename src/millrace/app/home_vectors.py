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
    from millrace.app.settings import Settings
    from millrace.app.training import ShowProgress
    from millrace.app.training_run import TrainingRun

VectorName = Literal["semantic-ids", "social"]

READS: Final[Mapping[Kind, tuple[VectorName, ...]]] = {
    "ranker": ("semantic-ids", "social"),
    "retrieval": ("semantic-ids",),
}
"""Which vectors models of a bare `millrace train` read. What no model reads is not made."""

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

    A home may be too small for them: too few posts, or nobody who follows anybody. A line says so.
    """
    found: dict[VectorName, Path] = {}
    if "semantic-ids" in wanted:
        folder = settings.training_dir / "semantic-ids"

        def semantic_ids() -> TrainedSemanticIds | None:
            config = SemanticIdConfig(seed=seed)
            return _or_none(
                "semantic ids",
                lambda: train_home_semantic_ids(settings, config, folder, show_progress, until=run.log_end),
            )

        if run.stage("semantic-ids", TrainedSemanticIds | None, semantic_ids, folder) is not None:
            found["semantic-ids"] = folder
    if "social" in wanted:
        folder_of_users = settings.training_dir / "social"

        def social() -> TrainedSocial | None:
            from millrace.flywheel.train_social import SocialTraining
            from millrace.models.social import SocialConfig

            training = SocialTraining(encoder=SocialConfig(seed=seed))
            return _or_none(
                "social vectors",
                lambda: train_home_social(
                    settings, training, folder_of_users, show_progress, hours=hours, until=run.log_end
                ),
            )

        if run.stage("social", TrainedSocial | None, social, folder_of_users) is not None:
            found["social"] = folder_of_users
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


def _or_none(what: str, train: Callable[[], T]) -> T | None:
    try:
        return train()
    except (SourceDataError, StoreError) as error:
        logger.warning("no %s: %s", what, error)
        return None
