"""Distil the ranker into the pre-ranker: what it says of each candidate, learned by a network a tenth as dear.

A student learns from rows that were only ever ranked, too: the teacher says of each what it predicts, and labels are
added where a row has some. Slates are held out by time. The whole loop is here; a run that is killed goes on from its
checkpoint and ends, on a CPU, with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta, Struct
from torch import Tensor

from millrace.base.atomic_file import replacing
from millrace.base.errors import SchemaError, SourceDataError
from millrace.base.ids import Int64Array
from millrace.flywheel.checkpointing import CHECKPOINT_NAME, Checkpoint
from millrace.flywheel.mixed_precision import mixed_precision
from millrace.flywheel.optimisers import Optimisers
from millrace.flywheel.pre_ranker_batches import assembled, read_as
from millrace.flywheel.ranker_batches import RankerBatch, ranker_batch
from millrace.flywheel.sample_set import Float32Array, SampleSet
from millrace.flywheel.training_log import TrainingLog
from millrace.models.config import PreRankerConfig, TableConfig
from millrace.models.learned_ranker import calibrate
from millrace.models.losses import distillation_losses
from millrace.models.pre_ranker import PreRanker
from millrace.models.pre_ranker_export import export_pre_ranker
from millrace.models.tables import Tables

MODEL_NAME: Final = "model.pt"
REPORT_NAME: Final = "report.json"
SERVED_NAME: Final = "served"
_EVAL_SLATES: Final = 64


class Lesson(NamedTuple):
    """What a student learns from.

    Attributes
    ----------
    samples
        Viewers and candidates, and the labels of those rows that have some.
    teacher
        Shape (n_rows, n_actions), float32: the ranker's predictions of all rows, probabilities and seconds; as it was
        logged (`CandidatesLogged`), or of a ranker that is run over the samples.
    has_labels
        Shape (n_rows,), bool: which rows were shown, so that their labels say something.
    """

    samples: SampleSet
    teacher: Float32Array
    has_labels: npt.NDArray[np.bool_]

    def take(self, slates: Int64Array) -> Lesson:
        """Return some slates of it."""
        rows = self.samples.rows_of(slates)
        return Lesson(self.samples.take(slates), self.teacher[rows], self.has_labels[rows])


class PreRankerTraining(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the pre-ranker is learned."""

    d: Annotated[int, Meta(ge=4)] = 32
    n_hidden: Annotated[int, Meta(ge=4)] = 64
    n_interests: Annotated[int, Meta(ge=1)] = 8
    max_history: Annotated[int, Meta(ge=1)] = 128
    tables: TableConfig = TableConfig()
    temperature: Annotated[float, Meta(ge=1)] = 3.0
    soft_share: Annotated[float, Meta(ge=0, le=1, description="how much of a labelled row's loss is the teacher's")] = (
        0.7
    )
    n_epochs: Annotated[float, Meta(gt=0)] = 3.0
    n_slates: Annotated[int, Meta(ge=1, description="slates of a step")] = 64
    learning_rate: Annotated[float, Meta(gt=0)] = 4e-3
    table_learning_rate: Annotated[float, Meta(gt=0)] = 0.03
    n_warm_up: Annotated[int, Meta(ge=0, description="steps until the learning rate is reached")] = 50
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-2
    max_norm: Annotated[float, Meta(gt=0, description="gradients of dense weights are clipped to it")] = 1.0
    report_every: Annotated[int, Meta(ge=1, description="steps between validations, which are checkpoints too")] = 200
    validation_frac: Annotated[float, Meta(gt=0, lt=1, description="newest slates that are held out")] = 0.1
    min_history_frac: Annotated[
        float, Meta(ge=0, le=1, description="each history is cut to a random share of at least this, in training")
    ] = 1.0
    seed: int = 1


class PreRankerReport(Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes
    ----------
    n_labelled
        How many of the rows had labels.
    best_step, validation_loss
        After how many steps the validation loss was least, and how small: those weights are kept.
    calibration
        By head: the slope and the shift of its logits that were built in.
    """

    config: PreRankerTraining
    pre_ranker: PreRankerConfig
    n_slates: int
    n_rows: int
    n_labelled: int
    n_steps: int
    best_step: int
    validation_loss: float
    calibration: dict[str, tuple[float, float]]


def train_pre_ranker(
    lesson: Lesson,
    config: PreRankerTraining,
    *,
    folder: Path,
    teacher_tables: Tables | None = None,
    device: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[PreRanker, PreRankerReport]:
    """Learn the pre-ranker, write it, its exported form (``served``) and the report into a folder; return both.

    Parameters
    ----------
    lesson
        What to learn from and to validate on.
    config
        How.
    folder
        An interrupted run of the same inputs goes on from what is there; one of others is begun anew.
    teacher_tables
        The ranker's tables: the student's begin as these where both are of one size. None: from chance.
    device
        Where torch computes; None: a GPU if there is one, in mixed precision.
    on_progress
        Called after each step with how many are done and how many there are.

    Raises
    ------
    SourceDataError
        If there is nothing to learn from.
    SchemaError
        If the teacher's predictions are not one row a candidate and one column an action.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    samples = lesson.samples
    _check(lesson)
    order = np.argsort(samples.now_ms, kind="stable")
    n_held_out = max(int(len(samples) * config.validation_frac), 1)
    learned, held_out = order[:-n_held_out], order[-n_held_out:]
    if not len(learned):
        raise SourceDataError(
            "samples",
            value=len(samples),
            problem="too few slates to learn from",
            remedy="take a longer span of the log",
        )
    student = PreRankerConfig(
        d=config.d,
        n_hidden=config.n_hidden,
        n_interests=config.n_interests,
        max_history=config.max_history,
        tables=config.tables,
        actions=samples.meta.actions,
        n_dense=samples.dense.shape[1],
        n_profile_dense=samples.profile_dense.shape[1],
        schema=samples.meta.schema,
    )
    torch.manual_seed(config.seed)
    model = PreRanker(student).to(device)
    rows = samples.rows_of(learned)
    model.start_from(torch.from_numpy(np.asarray(lesson.teacher[rows]).mean(axis=0)))
    if teacher_tables is not None:
        _begin_as(model.tables, teacher_tables)
    per_epoch = max(len(learned) // config.n_slates, 1)
    n_steps = max(round(per_epoch * config.n_epochs), 1)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = _stamp(lesson, config, teacher_tables)
    optimisers = Optimisers(model.dense_parameters(), model.tables.parameters(), config, n_steps)
    state = Checkpoint(folder / CHECKPOINT_NAME, stamp, model, optimisers.by_name)
    state.restore(device)
    with TrainingLog(folder, state.step) as log:
        losses: list[float] = []
        for step in range(state.step, n_steps):
            slates, max_history = _drawn(learned, config, step, per_epoch)
            loss = _loss(model, lesson, slates, max_history, config, device)
            optimisers.take(step, loss)
            losses.append(float(loss.detach()))
            done = step + 1
            if done % config.report_every == 0 or done == n_steps:
                found = _validate(model, lesson, held_out, config, device)
                state.keep(done, found)
                log.write(done, {"loss": float(np.mean(losses)), "validation/loss": found})
                losses.clear()
            on_progress(done, n_steps)
    state.take_best()
    fitted = calibrate(model, *_to_calibrate_on(model, lesson, held_out, device))
    report = PreRankerReport(
        config=config,
        pre_ranker=student,
        n_slates=len(learned),
        n_rows=len(rows),
        n_labelled=int(lesson.has_labels[rows].sum()),
        n_steps=n_steps,
        best_step=state.best_step,
        validation_loss=state.best_loss,
        calibration={name: (a, b) for name, (a, b, _) in zip(student.actions, fitted.tolist(), strict=True)},
    )
    with replacing(folder / MODEL_NAME) as file:
        torch.save(model.state_dict(), file)
    export_pre_ranker(model, folder / SERVED_NAME)
    with replacing(folder / REPORT_NAME) as file:
        file.write(msgspec.json.format(msgspec.json.encode(report)))
    state.remove()
    return model.eval(), report


def load_pre_ranker(folder: Path) -> tuple[PreRanker, PreRankerReport]:
    """Return a pre-ranker that `train_pre_ranker` wrote, and its report."""
    report = msgspec.json.decode((folder / REPORT_NAME).read_bytes(), type=PreRankerReport)
    model = PreRanker(report.pre_ranker)
    model.load_state_dict(torch.load(folder / MODEL_NAME, map_location="cpu", weights_only=True))
    return model.eval(), report


@torch.no_grad()
def pre_predicted(model: PreRanker, samples: SampleSet, slates: Int64Array) -> Float32Array:
    """Return the predictions for the rows of some slates, in the order of `SampleSet.rows_of`, (n, n_actions)."""
    device = str(next(model.parameters()).device)
    parts = [model.linked(logits).cpu().numpy() for _, logits in _walk(model, samples, slates, device)]
    return np.concatenate(parts) if parts else np.empty((0, len(samples.meta.actions)), dtype=np.float32)


def _walk(model: PreRanker, samples: SampleSet, slates: Int64Array, device: str) -> Iterator[tuple[Int64Array, Tensor]]:
    """Yield rows and their logits, some slates at a time."""
    for first in range(0, len(slates), _EVAL_SLATES):
        part = slates[first : first + _EVAL_SLATES]
        yield samples.rows_of(part), _logits(model, samples, part, None, device)


def _logits(
    model: PreRanker, samples: SampleSet, slates: Int64Array, max_history: Int64Array | None, device: str
) -> Tensor:
    """Return the logits of the slates' rows, in the order of `SampleSet.rows_of`, (n, n_actions)."""
    batch: RankerBatch = ranker_batch(samples, slates, read_as(model.config), max_history).to(device)
    profile, history, mask, candidates = assembled(batch, model)
    logits = model.logits(candidates, *model.encode(profile, history, mask))
    n_rows = torch.from_numpy(np.diff(samples.starts)[slates]).to(device)
    is_row = torch.arange(logits.shape[1], device=device) < n_rows[:, None]
    return logits[is_row]


def _loss(
    model: PreRanker,
    lesson: Lesson,
    slates: Int64Array,
    max_history: Int64Array | None,
    config: PreRankerTraining,
    device: str,
) -> Tensor:
    with mixed_precision(device):
        logits = _logits(model, lesson.samples, slates, max_history, device)
    return _row_loss(logits.float(), lesson, lesson.samples.rows_of(slates), model.continuous, config)


def _row_loss(logits: Tensor, lesson: Lesson, rows: Int64Array, continuous: int, config: PreRankerTraining) -> Tensor:
    def at(values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values[rows])).to(logits.device)

    losses = distillation_losses(
        logits,
        at(lesson.teacher),
        at(lesson.samples.labels),
        at(lesson.samples.weights),
        at(lesson.has_labels),
        continuous,
        temperature=config.temperature,
        soft_share=config.soft_share,
    )
    return losses.sum()


@torch.no_grad()
def _validate(model: PreRanker, lesson: Lesson, held_out: Int64Array, config: PreRankerTraining, device: str) -> float:
    total, weight = 0.0, 0
    for rows, logits in _walk(model, lesson.samples, held_out, device):
        total += len(rows) * float(_row_loss(logits, lesson, rows, model.continuous, config))
        weight += len(rows)
    return total / max(weight, 1)


@torch.no_grad()
def _to_calibrate_on(
    model: PreRanker, lesson: Lesson, held_out: Int64Array, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, what they should say (labels, or else the teacher's word), and weights of the held-out rows."""
    found = [(rows, logits.float().cpu()) for rows, logits in _walk(model, lesson.samples, held_out, device)]
    rows = np.concatenate([rows for rows, _ in found])
    truth = np.where(lesson.has_labels[rows, None], lesson.samples.labels[rows], lesson.teacher[rows])
    weights = torch.from_numpy(np.asarray(lesson.samples.weights[rows]))
    return torch.cat([logits for _, logits in found]), torch.from_numpy(truth), weights


def _drawn(
    learned: Int64Array, config: PreRankerTraining, step: int, per_epoch: int
) -> tuple[Int64Array, Int64Array | None]:
    """Return a step's slates, and how much of each history is read: every epoch others, in another order."""
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng((config.seed, epoch)).permutation(len(learned))
    slates = learned[order[place * config.n_slates : (place + 1) * config.n_slates]]
    if config.min_history_frac == 1.0:
        return slates, None
    share = np.random.default_rng((config.seed, epoch, place)).uniform(config.min_history_frac, 1.0, len(slates))
    return slates, np.rint(share * config.max_history).astype(np.int64)


@torch.no_grad()
def _begin_as(tables: Tables, teacher: Tables) -> None:
    """Let tables begin as the teacher's, those of the same size: what it knows of words and ids need not be found."""
    for name in ("tokens", "posts", "authors", "languages"):
        mine, theirs = getattr(tables, name).weight, getattr(teacher, name).weight
        if mine.shape == theirs.shape:
            mine.copy_(theirs)


def _check(lesson: Lesson) -> None:
    samples = lesson.samples
    shape = (samples.n_rows, len(samples.meta.actions))
    if lesson.teacher.shape != shape or lesson.has_labels.shape != shape[:1]:
        raise SchemaError(
            "teacher's predictions",
            value=f"{lesson.teacher.shape} and {lesson.has_labels.shape}",
            problem=f"not of the samples' shape {shape}",
            remedy="give one row a candidate and one column an action, and a flag a candidate",
        )
    if not np.isfinite(lesson.teacher).all():
        raise SchemaError(
            "teacher's predictions",
            value=None,
            problem="not all are finite",
            remedy="leave out the candidates that the ranker could not predict",
        )


def _stamp(lesson: Lesson, config: PreRankerTraining, teacher_tables: Tables | None) -> str:
    """Return a name of everything that a run depends on."""
    samples = lesson.samples
    digest = hashlib.blake2b(msgspec.json.encode((config, samples.meta)), digest_size=16)
    arrays = (samples.viewers, samples.now_ms, samples.post_ids, samples.labels, samples.text_posts)
    for array in (*arrays, lesson.teacher, lesson.has_labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    if teacher_tables is not None:
        digest.update(teacher_tables.authors.weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
