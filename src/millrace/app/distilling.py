"""`millrace distill`: from a trained ranker, and a home's log, to a pre-ranker; and how much the student lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from millrace.app.held_out import held_out
from millrace.app.kept import kept_of_best, newest_pages
from millrace.app.lessons import lesson_of
from millrace.base.actions import CONTINUOUS
from millrace.base.errors import ConfigError, SchemaError
from millrace.base.ids import Int64Array
from millrace.base.progress import moving
from millrace.content.ngrams import UInt16Array
from millrace.features.encoding.vector_inputs import BoolArray, VectorInputs
from millrace.features.encoding.vector_sources import VectorSources
from millrace.flywheel import metrics
from millrace.flywheel.kept_share import KeptShare
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.flywheel.timed_page import TimedPage

if TYPE_CHECKING:
    from millrace.app.evaluation import ShowProgress
    from millrace.flywheel.logged_samples import LoggedCandidates
    from millrace.flywheel.train_pre_ranker import PreRankerTraining
    from millrace.inference.tables import EmbeddingTables
    from millrace.models.learned_ranker import LearnedRanker

MIN_POSITIVES: Final = 20
"""With fewer positives among the held-out rows a head gets no figures."""

N_TIMED: Final = 2_000
_N_ROUNDS: Final = 15


class StudentHead(msgspec.Struct, frozen=True, kw_only=True):
    """One head on the slates that were held out: the student beside its teacher."""

    action: str
    n_held_out: int
    teacher_auc: float
    student_auc: float
    teacher_normalised_entropy: float
    student_normalised_entropy: float


class Distilled(msgspec.Struct, frozen=True, kw_only=True):
    """What `distil` did.

    Attributes
    ----------
    auc_lost
        The mean over the heads of what the student's AUC lacks of its teacher's.
    n_labelled
        How many of the rows that it learned from were seen.
    n_timed, teacher_ms, student_ms
        Milliseconds for so many candidates of one viewer, history and assembly included, by the exported models in
        ONNX Runtime on one thread, in turns; medians.
    speed_up
        How many times as fast the student is.
    kept
        What of the ranker's best candidates of a page the student would leave it (`millrace.app.kept`).
    """

    folder: str
    n_slates: int
    n_rows: int
    n_labelled: int
    best_step: int
    n_steps: int
    validation_loss: float
    held_out: tuple[StudentHead, ...]
    auc_lost: float
    n_timed: int
    teacher_ms: float
    student_ms: float
    speed_up: float
    kept: KeptShare


class Teacher(NamedTuple):
    """A ranker that is distilled: the network, and the folder of its exported form."""

    model: LearnedRanker
    served: Path


def distil(
    samples: SampleSet,
    ranker: Path,
    training: PreRankerTraining,
    folder: Path,
    show_progress: ShowProgress,
    candidates: LoggedCandidates | None = None,
    weights: Mapping[str, float] | None = None,
) -> Distilled:
    """Distil the ranker of a folder into a pre-ranker, write it, and measure both on slates newer than all it has seen.

    Parameters
    ----------
    samples
        Pages that the teacher is asked about; their rows were seen, so that they have labels too.
    ranker
        Written by `millrace.flywheel.train_ranker.train_ranker`.
    training
        How; the tables get the teacher's sizes.
    folder
        Where the student goes.
    show_progress
        Tells the person waiting.
    candidates
        All candidates of sampled requests, which it is asked about as well; `millrace.app.lessons.home_candidates`.
    weights
        What each action is worth, by name: by it candidates are put in order for ``kept``. None: as by default.

    Raises
    ------
    ConfigError
        If there is no ranker in the folder, or one that has learned some actions only.
    SchemaError
        If the ranker reads other features than the samples hold.
    """
    from millrace.flywheel.train_ranker import MODEL_NAME, SERVED_NAME, load_ranker

    if not (ranker / MODEL_NAME).exists():
        raise ConfigError(
            "ranker",
            value=str(ranker),
            problem="no trained ranker is there",
            remedy="train one: `millrace train ranker`, or name its folder",
        )
    teacher, told = load_ranker(ranker)
    if told.config.heads:
        raise ConfigError(
            "ranker",
            value=str(ranker),
            problem=f"knows of {', '.join(told.config.heads)} alone: a single-task twin teaches nothing of the others",
            remedy="train one of all actions: `millrace train ranker`, without --heads",
        )
    return distil_from(
        Teacher(teacher, ranker / SERVED_NAME), samples, training, folder, show_progress, candidates, weights
    )


def distil_from(
    teacher: Teacher,
    samples: SampleSet,
    training: PreRankerTraining,
    folder: Path,
    show_progress: ShowProgress,
    candidates: LoggedCandidates | None = None,
    weights: Mapping[str, float] | None = None,
) -> Distilled:
    """Distil a ranker that is open already; all else as `distil`, which finds it in a folder.

    Raises
    ------
    SchemaError
        If the ranker reads other features than the samples hold.
    """
    from millrace.flywheel.train_pre_ranker import SERVED_NAME, pre_predicted, train_pre_ranker
    from millrace.flywheel.train_ranker import predicted

    model, ranking = teacher.model, teacher.model.ranker.config
    if ranking.schema != samples.meta.schema:
        raise SchemaError(
            "ranker",
            value=ranking.schema,
            problem=f"reads other features than the samples' {samples.meta.schema}",
            remedy="train it anew: `millrace train ranker`",
        )
    parts = held_out(samples, training.validation_frac)
    newest, training = parts.newest, msgspec.structs.replace(training, validation_frac=parts.frac)
    judged = newest_pages(samples, newest, candidates)
    all_judged = np.arange(len(judged))
    if candidates is not None:
        candidates = candidates.before(int(samples.now_ms[newest[0]]))
    lesson = lesson_of(samples.take(parts.older), candidates, model, show_progress)
    sizes = msgspec.structs.replace(ranking.trunk.tables, n_sid_levels=0)
    training = msgspec.structs.replace(training, tables=sizes, max_history=ranking.trunk.max_history)
    with show_progress("distilling (steps)") as step:
        student, report = train_pre_ranker(
            lesson,
            training,
            folder=folder,
            teacher_tables=model.tables,
            on_progress=moving(step),
        )
    rows = samples.rows_of(newest)
    heads = student_heads(
        samples.labels[rows],
        predicted(model, samples, newest),
        pre_predicted(student, samples, newest),
        samples.meta.actions,
    )
    teacher_ms, student_ms = timed(samples, newest, teacher.served, folder / SERVED_NAME, model.sources)
    return Distilled(
        folder=str(folder),
        n_slates=report.n_slates,
        n_rows=report.n_rows,
        n_labelled=report.n_labelled,
        best_step=report.best_step,
        n_steps=report.n_steps,
        validation_loss=report.validation_loss,
        held_out=heads,
        auc_lost=float(np.mean([head.teacher_auc - head.student_auc for head in heads])) if heads else 0.0,
        n_timed=N_TIMED,
        teacher_ms=teacher_ms,
        student_ms=student_ms,
        speed_up=teacher_ms / student_ms,
        kept=kept_of_best(
            judged, predicted(model, judged, all_judged), pre_predicted(student, judged, all_judged), weights
        ),
    )


def student_heads(
    labels: Float32Array, teacher: Float32Array, student: Float32Array, actions: tuple[str, ...]
) -> tuple[StudentHead, ...]:
    """Return the figures of every discrete head with `MIN_POSITIVES` positives, and as many others, among the rows.

    Parameters
    ----------
    labels
        Shape (n, n_actions): above 0 is positive.
    teacher, student
        Shape (n, n_actions): what both predict for the same rows; finite.
    actions
        Names of the columns.

    Returns
    -------
    tuple
        In the order of actions; empty where no head has enough.

    Raises
    ------
    IndexError
        If the arrays differ in rows, or have fewer columns than there are actions.
    """
    found = []
    for head, name in enumerate(actions):
        is_positive = np.asarray(labels[:, head] > 0)
        n = int(is_positive.sum())
        if head in CONTINUOUS or min(n, len(is_positive) - n) < MIN_POSITIVES:
            continue
        of_teacher, of_student = teacher[:, head].astype(np.float64), student[:, head].astype(np.float64)
        found.append(
            StudentHead(
                action=name,
                n_held_out=n,
                teacher_auc=metrics.auc(is_positive, of_teacher),
                student_auc=metrics.auc(is_positive, of_student),
                teacher_normalised_entropy=metrics.normalised_entropy(is_positive, of_teacher),
                student_normalised_entropy=metrics.normalised_entropy(is_positive, of_student),
            )
        )
    return tuple(found)


def timed(
    samples: SampleSet, slates: Int64Array, teacher: Path, student: Path, sources: VectorSources
) -> tuple[float, float]:
    """Return the median milliseconds of teacher and student for `N_TIMED` candidates of one viewer, in turns.

    The viewer of the slates who has the longest history is asked for candidates of them all, over and over until they
    are enough. The student's vectors of posts are made before, as a server keeps them.
    """
    from millrace.inference.pre_ranker_model import PreRankerModel
    from millrace.inference.ranker_model import RankerModel

    page = TimedPage.of(samples, slates, N_TIMED)

    def social_of(user_ids: Int64Array) -> tuple[Float32Array, BoolArray]:
        history = sources.social_history
        if history is None:
            return np.zeros((len(user_ids), 0), dtype=np.float32), np.zeros(len(user_ids), dtype=np.bool_)
        return history.vectors(user_ids, np.full(len(user_ids), samples.meta.until_ms))

    books = sources.codebooks
    inputs = VectorInputs(
        codes_of=None if books is None else lambda post_ids: books.encode(page.texts_of(post_ids)),
        social_of=social_of,
        texts_of=page.texts_of,
    )
    ranker = RankerModel.open(teacher, samples.meta.schema)
    light = PreRankerModel.open(student, samples.meta.schema)
    vectors = _MadeOnce(
        np.unique(np.concatenate([page.candidates.post_ids, page.viewer.history.post_ids])),
        light.tables,
        page.tokens_of,
    )
    runs: tuple[Callable[[], object], ...] = (
        lambda: ranker.predict(page.viewer, page.candidates, page.tokens_of, inputs),
        lambda: light.predict(page.viewer, page.candidates, vectors),
    )
    seconds: list[list[float]] = [[], []]
    for round_number in range(-2, _N_ROUNDS):
        for run, took in zip(runs, seconds, strict=True):
            start_s = time.perf_counter()
            run()
            if round_number >= 0:
                took.append(time.perf_counter() - start_s)
    ranker.close()
    return float(np.median(seconds[0])) * 1e3, float(np.median(seconds[1])) * 1e3


class _MadeOnce:
    """Vectors of some posts, made once."""

    def __init__(
        self, post_ids: Int64Array, tables: EmbeddingTables, tokens_of: Callable[[Int64Array], UInt16Array]
    ) -> None:
        from millrace.inference.post_vectors import MadeVectors

        self._post_ids = post_ids
        self._vectors = np.empty((len(post_ids), tables.width), dtype=np.float32)
        MadeVectors(tables, tokens_of).write(post_ids, self._vectors)

    def write(self, post_ids: Int64Array, out: Float32Array) -> None:
        """Write the vectors of posts that are among them."""
        out[:, : self._vectors.shape[1]] = self._vectors[np.searchsorted(self._post_ids, post_ids)]
