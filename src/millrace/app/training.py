"""`millrace train`: from a home's log to a trained model in a folder."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from millrace.app import wiring
from millrace.app.entropy_gain import EntropyGain, entropy_gain
from millrace.app.evaluation import ShowProgress
from millrace.app.held_out import held_out
from millrace.app.sampling import export_log, nothing_seen, replay_home
from millrace.app.settings import Settings
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher
from millrace.base.progress import moving
from millrace.features.encoding.vector_sources import VectorSources
from millrace.flywheel import metrics
from millrace.flywheel.platt import fit_platt
from millrace.flywheel.sample_merging import merged
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.flywheel.slate_join import HOUR_MS
from millrace.models.blending import log_odds

if TYPE_CHECKING:
    from millrace.flywheel.train_ranker import RankerTraining

MAX_LEFT_OUT: Final = 0.01
"""So few of the pages are left out rather than have the whole log replayed for them: a worker that was killed has not
logged those of its last moment."""

MIN_POSITIVES: Final = 20
"""With fewer positives among the held-out rows a head gets no figures."""

logger = logging.getLogger(__name__)


class HeadFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One head on the slates that were held out, beside the counters-based ranker.

    Attributes
    ----------
    n_learned, n_held_out
        Positives.
    auc, normalised_entropy, calibration
        Of the learned ranker; the ``counters_`` ones of the counters-based, calibrated on the older half.
    """

    action: str
    n_learned: int
    n_held_out: int
    auc: float
    normalised_entropy: float
    calibration: float
    counters_auc: float
    counters_normalised_entropy: float
    counters_calibration: float


class TrainedRanker(msgspec.Struct, frozen=True, kw_only=True):
    """What `train_home_ranker` did.

    Attributes
    ----------
    held_out
        The newest slates: the weights were chosen by their loss, and heads calibrated on the older half of them; the
        figures are of the newer half.
    gain
        Over calibrated counters, on the newer half.
    held_out_from_ms
        When the first of those slates was made.
    """

    folder: str
    n_slates: int
    n_rows: int
    best_step: int
    n_steps: int
    validation_loss: float
    held_out: tuple[HeadFigures, ...]
    gain: EntropyGain
    held_out_from_ms: int


def home_samples(
    settings: Settings,
    show_progress: ShowProgress,
    *,
    hours: float | None = None,
    window_h: float = 24.0,
    replays: bool = False,
    until: int | None = None,
) -> SampleSet:
    """Return the samples of a home's log, as of each slate's moment; works beside a server.

    The features of a page are those that were logged when it was served, as the model saw them. Only slates whose
    features were not logged, or were of another schema, are replayed: the log is folded up to the moment of each, and
    they are encoded anew. Brings the warehouse up to the log first. Slates that are too young for their labels to be
    known (`millrace.flywheel.maturity`) are left out.

    Parameters
    ----------
    settings
        The home.
    show_progress
        Tells the person waiting.
    hours
        Newest hours; None: all.
    window_h
        How long after a look an action still belongs to it.
    replays
        Replay all slates, logged or not: for whoever changes features.
    until
        Position of the log that is taken for its end; None: where it ends now.

    Raises
    ------
    StoreError
        If the log holds no impressions of pages within the span, or must be replayed and was trimmed.
    """
    hasher = IdHasher()
    export_log(settings, show_progress)
    with show_progress("reading what was logged (slates)") as step:
        window_ms = int(window_h * HOUR_MS)
        reader = wiring.build_logged_samples(settings, hasher, window_ms=window_ms, hours=hours, until=until)
        with closing(reader):
            slates, from_ms = reader.slates, reader.from_ms
            wanted = np.flatnonzero((slates.began_ms >= from_ms) & (slates.ended_ms < reader.mature_until_ms))
            step.total(len(wanted))
            # Of a page that is not logged itself, only its looks tell the time: they may be a little later.
            logged, numbers = reader.of_slates(wanted[:0] if replays else wanted, max(from_ms - HOUR_MS, 0))
            step.advance(len(numbers))
    missing = np.setdiff1d(wanted, numbers)
    if len(numbers) and len(missing) <= MAX_LEFT_OUT * len(wanted):
        if len(missing):
            logger.warning("%d of %d pages are left out: their features were not logged", len(missing), len(wanted))
        return logged
    try:
        with show_progress("replaying the log (records)") as step:
            others, of_others = replay_home(settings, hasher, slates.take(missing), moving(step))
    except StoreError as error:
        if not len(numbers):
            raise
        logger.warning("%d pages whose features were not logged are left out: %s", len(missing), error)
        return logged
    if not len(numbers) and not len(others):
        raise nothing_seen()
    return merged(logged, numbers, others, missing[of_others]) if len(numbers) else others


def train_home_ranker(
    samples: SampleSet,
    training: RankerTraining,
    folder: Path,
    show_progress: ShowProgress,
    sources: VectorSources | None = None,
) -> TrainedRanker:
    """Train the ranker on samples, write it into a folder, and measure it on slates newer than all it has seen."""
    from millrace.flywheel.train_ranker import predicted, train_ranker

    parts = held_out(samples, training.validation_frac)
    older, training = samples.take(parts.older), msgspec.structs.replace(training, validation_frac=parts.frac)
    with show_progress("training the ranker (steps)") as step:
        model, report = train_ranker(older, training, folder=folder, sources=sources, on_progress=moving(step))
    rows, before = samples.rows_of(parts.newest), samples.rows_of(parts.chosen_by)
    counters = calibrated(samples.baseline[rows], samples.baseline[before], samples.labels[before])
    labels, probs = samples.labels[rows], predicted(model, samples, parts.newest)
    told = head_figures(labels, probs, counters, samples, report.positives)
    # A head that was not learned says what counters say: of it there is nothing to tell.
    figures = tuple(head for head in told if not training.heads or head.action in training.heads)
    heads = [samples.meta.actions.index(head.action) for head in figures]
    return TrainedRanker(
        folder=str(folder),
        n_slates=report.n_slates,
        n_rows=report.n_rows,
        best_step=report.best_step,
        n_steps=report.n_steps,
        validation_loss=report.validation_loss,
        held_out=figures,
        gain=entropy_gain(labels, probs, counters, samples.slate_of[rows], heads),
        held_out_from_ms=int(samples.now_ms[np.concatenate([parts.chosen_by, parts.newest])].min()),
    )


def calibrated(probs: Float32Array, seen_probs: Float32Array, seen_labels: Float32Array) -> Float32Array:
    """Return predictions calibrated head by head on rows of before: what is compared with a ranker must be as well.

    Counters rank by rates that are several times too high: to know that takes two numbers a head, and no ranker.

    Parameters
    ----------
    probs
        Shape (n, n_actions): what is calibrated; probabilities, and amounts of the continuous head.
    seen_probs, seen_labels
        Shape (m, n_actions): predictions of the same kind for rows of before, and what came of these. Where there are
        none, predictions stay as they are.

    Returns
    -------
    numpy.ndarray
        Shape (n, n_actions), float32, an array of its own; the continuous head as it was given.

    Raises
    ------
    ValueError, IndexError
        If the rows of before are not as many in both, or have fewer heads.
    """
    from millrace.base.actions import CONTINUOUS

    found = np.array(probs, dtype=np.float32)
    for head in range(found.shape[1]):
        if head not in CONTINUOUS:
            is_positive = (np.asarray(seen_labels[:, head]) > 0).astype(np.float32)
            platt = fit_platt(log_odds(np.asarray(seen_probs[:, head])), is_positive)
            found[:, head] = platt(log_odds(np.asarray(probs[:, head])))
    return found


def head_figures(
    labels: Float32Array, probs: Float32Array, counters: Float32Array, samples: SampleSet, learned: dict[str, int]
) -> tuple[HeadFigures, ...]:
    """Return the figures of every discrete head with `MIN_POSITIVES` positives, and as many others, among the rows.

    Parameters
    ----------
    labels
        Shape (n, n_actions), in the samples' order of actions: above 0 is positive.
    probs, counters
        Shape (n, n_actions): what the ranker and the counters predict for the same rows; finite.
    samples
        Name the actions; their rows are not read.
    learned
        By action: positives that the ranker learned from.

    Returns
    -------
    tuple
        In the order of actions; empty where no head has enough.

    Raises
    ------
    IndexError
        If the arrays differ in rows, or have fewer columns than there are actions.
    KeyError
        If ``learned`` lacks an action that has figures.
    """
    from millrace.base.actions import CONTINUOUS

    found = []
    for head, name in enumerate(samples.meta.actions):
        is_positive = np.asarray(labels[:, head] > 0)
        n = int(is_positive.sum())
        if head in CONTINUOUS or min(n, len(is_positive) - n) < MIN_POSITIVES:
            continue
        p, c = probs[:, head].astype(np.float64), counters[:, head].astype(np.float64)
        found.append(
            HeadFigures(
                action=name,
                n_learned=learned[name],
                n_held_out=n,
                auc=metrics.auc(is_positive, p),
                normalised_entropy=metrics.normalised_entropy(is_positive, p),
                calibration=metrics.calibration(is_positive.astype(np.float64), p),
                counters_auc=metrics.auc(is_positive, c),
                counters_normalised_entropy=metrics.normalised_entropy(is_positive, c),
                counters_calibration=metrics.calibration(is_positive.astype(np.float64), c),
            )
        )
    return tuple(found)
