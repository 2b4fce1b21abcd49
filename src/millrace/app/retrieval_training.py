"""`millrace train retrieval`: from a home's samples to towers in a folder, measured on pages that are newer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from millrace.app.evaluation import ShowProgress
from millrace.app.held_out import held_out
from millrace.base.progress import moving
from millrace.features.encoding.vector_sources import VectorSources
from millrace.flywheel.catalogue import catalogue_of
from millrace.flywheel.recall import Recall, Scores, held_out_ranks, popularity_scores, recall_of, shown_before
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.slate_join import HOUR_MS

if TYPE_CHECKING:
    from millrace.flywheel.train_retrieval import RetrievalTraining


class TrainedRetrieval(msgspec.Struct, frozen=True, kw_only=True):
    """What `train_home_retrieval` did.

    Attributes
    ----------
    validation
        On the pages by which the weights were chosen.
    held_out
        On newer pages that nothing was chosen by, by retriever: ``towers``, ``popularity``.
    """

    folder: str
    n_slates: int
    n_positives: int
    n_posts: int
    best_step: int
    n_steps: int
    validation: Recall
    held_out: dict[str, Recall]


def train_home_retrieval(
    samples: SampleSet,
    training: RetrievalTraining,
    folder: Path,
    show_progress: ShowProgress,
    sources: VectorSources | None = None,
) -> TrainedRetrieval:
    """Train the towers on samples, write them into a folder, and measure them on pages newer than they have seen."""
    from millrace.flywheel.tower_vectors import tower_scores
    from millrace.flywheel.train_retrieval import positives_of, train_retrieval

    parts = held_out(samples, training.validation_frac)
    older, newest = samples.take(parts.older), parts.newest
    training = msgspec.structs.replace(training, validation_frac=parts.frac)
    with show_progress("training the towers (steps)") as step:
        model, report = train_retrieval(older, training, folder=folder, sources=sources, on_progress=moving(step))
    catalogue, is_positive = catalogue_of(samples), positives_of(samples, training.positives)

    def measured(scores: Scores) -> Recall:
        rows, places, n_live = held_out_ranks(
            scores, samples, catalogue, is_positive, newest, int(training.max_age_h * HOUR_MS)
        )
        return recall_of(places, n_live, shown_before(samples, rows))

    return TrainedRetrieval(
        folder=str(folder),
        n_slates=report.n_slates,
        n_positives=report.n_positives,
        n_posts=len(catalogue),
        best_step=report.best_step,
        n_steps=report.n_steps,
        validation=report.validation,
        held_out={
            "towers": measured(tower_scores(model, samples, catalogue)),
            "popularity": measured(popularity_scores(samples, catalogue, is_positive)),
        },
    )
