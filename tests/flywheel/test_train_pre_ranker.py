"""The pre-ranker's loop: it learns from its teacher, from labels where there are some, and goes on after a kill."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional

from millrace.base.actions import Action
from millrace.base.errors import SchemaError, SourceDataError
from millrace.flywheel.checkpointing import CHECKPOINT_NAME
from millrace.flywheel.metrics import auc
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_pre_ranker import (
    MODEL_NAME,
    SERVED_NAME,
    Lesson,
    PreRankerTraining,
    load_pre_ranker,
    pre_predicted,
    train_pre_ranker,
)
from millrace.inference.pre_ranker_model import PreRankerModel
from millrace.models.config import PreRankerConfig, TableConfig
from millrace.models.losses import distillation_losses, head_losses
from millrace.models.pre_ranker import PreRanker
from millrace.models.tables import Tables
from millrace.testing.sample_builders import planted_samples

TABLES = TableConfig(width=8, n_post_rows=64, n_author_rows=16)
QUICK = PreRankerTraining(
    d=8,
    n_hidden=16,
    n_interests=2,
    max_history=8,
    tables=TABLES,
    n_epochs=2,
    n_slates=20,
    n_warm_up=2,
    report_every=4,
    table_learning_rate=0.1,
    min_history_frac=0.5,
)
DWELL = int(Action.DWELL_TIME)


class KilledError(Exception):
    """The process ended here."""


def a_lesson(n_slates: int, *, is_labelled: bool = True, likes: float = 0.75) -> Lesson:
    """Return planted samples with a teacher who knows what is planted: posts of the viewer's topic are liked."""
    samples = planted_samples(n_slates)
    is_own = samples.labels[:, DWELL] > 5.0
    teacher = np.full(samples.labels.shape, 0.01, dtype=np.float32)
    teacher[:, Action.LIKE] = np.where(is_own, likes, 0.02)
    teacher[:, DWELL] = np.where(is_own, 12.0, 2.0)
    return Lesson(samples, teacher, np.full(samples.n_rows, is_labelled))


def test_a_student_learns_what_its_teacher_knows_without_any_label(tmp_path: Path) -> None:
    lesson = a_lesson(300, is_labelled=False)
    training = msgspec.structs.replace(
        QUICK, n_interests=4, n_epochs=20, learning_rate=2e-2, table_learning_rate=0.3, report_every=1_000
    )
    model, report = train_pre_ranker(lesson, training, folder=tmp_path)
    newest = np.arange(270, 300)
    rows = lesson.samples.rows_of(newest)
    probs = pre_predicted(model, lesson.samples, newest)
    is_own = lesson.teacher[rows, Action.LIKE] > 0.5
    assert auc(is_own, probs[:, Action.LIKE]) > 0.9
    assert probs[is_own, DWELL].mean() > 1.2 * probs[~is_own, DWELL].mean()
    assert (report.n_labelled, report.n_rows) == (0, 270 * 6)


def test_labels_that_nobody_knows_are_not_learned_from(tmp_path: Path) -> None:
    lesson = a_lesson(60, is_labelled=False)
    garbage = SampleSet(
        **{field: getattr(lesson.samples, field) for field in lesson.samples.__dataclass_fields__ if field != "labels"},
        labels=np.full_like(lesson.samples.labels, np.nan),
    )
    one, _ = train_pre_ranker(lesson, QUICK, folder=tmp_path / "one")
    other, _ = train_pre_ranker(lesson._replace(samples=garbage), QUICK, folder=tmp_path / "other")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    lesson = a_lesson(100)
    whole, _ = train_pre_ranker(lesson, QUICK, folder=tmp_path / "whole")

    def killed_at_6(done: int, _all: int) -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        train_pre_ranker(lesson, QUICK, folder=tmp_path / "cut", on_progress=killed_at_6)
    assert (tmp_path / "cut" / CHECKPOINT_NAME).exists()
    steps: list[int] = []
    resumed, _ = train_pre_ranker(
        lesson, QUICK, folder=tmp_path / "cut", on_progress=lambda done, _all: steps.append(done)
    )
    assert steps[0] == 5  # from the checkpoint of step 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]
    assert not (tmp_path / "cut" / CHECKPOINT_NAME).exists()


def test_a_checkpoint_of_another_teacher_is_not_gone_on_from(tmp_path: Path) -> None:
    def killed_at_6(done: int, _all: int) -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        train_pre_ranker(a_lesson(100), QUICK, folder=tmp_path, on_progress=killed_at_6)
    steps: list[int] = []
    train_pre_ranker(
        a_lesson(100, likes=0.4), QUICK, folder=tmp_path, on_progress=lambda done, _all: steps.append(done)
    )
    assert steps[0] == 1


def test_what_was_written_is_loaded_and_serves(tmp_path: Path) -> None:
    lesson = a_lesson(60)
    model, report = train_pre_ranker(lesson, QUICK, folder=tmp_path)
    loaded, told = load_pre_ranker(tmp_path)
    some = np.arange(7)
    assert np.array_equal(pre_predicted(model, lesson.samples, some), pre_predicted(loaded, lesson.samples, some))
    assert told == report
    assert (tmp_path / MODEL_NAME).exists()
    served = PreRankerModel.open(tmp_path / SERVED_NAME, lesson.samples.meta.schema)
    assert served.config == report.pre_ranker


def test_tables_of_the_same_size_begin_as_the_teachers(tmp_path: Path) -> None:
    lesson = a_lesson(40)
    torch.manual_seed(7)
    theirs = Tables(msgspec.structs.replace(TABLES, n_author_rows=32))
    still = msgspec.structs.replace(QUICK, table_learning_rate=1e-12)
    model, _ = train_pre_ranker(lesson, still, folder=tmp_path, teacher_tables=theirs)
    assert torch.allclose(model.tables.tokens.weight, theirs.tokens.weight, atol=1e-6)
    assert torch.allclose(model.tables.posts.weight, theirs.posts.weight, atol=1e-6)
    assert model.tables.authors.weight.shape[0] == 16


def test_a_row_alone_is_as_a_row_among_others() -> None:
    lesson = a_lesson(6)
    torch.manual_seed(1)
    config = PreRankerConfig(
        d=8, n_hidden=16, max_history=8, tables=TABLES, actions=lesson.samples.meta.actions, n_dense=68
    )
    student = PreRanker(config).eval()
    whole = pre_predicted(student, lesson.samples, np.arange(6))
    alone = np.concatenate([pre_predicted(student, lesson.samples, np.array([slate])) for slate in range(6)])
    assert np.abs(whole - alone).max() < 1e-6


@pytest.mark.parametrize(
    "broken",
    [
        lambda lesson: lesson._replace(teacher=lesson.teacher[:-1]),
        lambda lesson: lesson._replace(has_labels=lesson.has_labels[:-1]),
        lambda lesson: lesson._replace(teacher=np.full_like(lesson.teacher, np.nan)),
    ],
)
def test_a_teacher_who_does_not_fit_is_refused(tmp_path: Path, broken: object) -> None:
    with pytest.raises(SchemaError, match="teacher"):
        train_pre_ranker(broken(a_lesson(4)), QUICK, folder=tmp_path)  # type: ignore[operator]


def test_too_few_slates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceDataError, match="too few slates"):
        train_pre_ranker(a_lesson(1), QUICK, folder=tmp_path)


def test_the_loss_is_the_published_one() -> None:
    logits = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    teacher = torch.tensor([[0.9, 3.0], [0.2, 8.0]])
    labels = torch.tensor([[1.0, 4.0], [float("nan"), float("nan")]])
    losses = distillation_losses(
        logits,
        teacher,
        labels,
        torch.ones(2),
        torch.tensor([True, False]),
        1,
        temperature=3.0,
        soft_share=0.7,
    )
    soft = 9.0 * functional.binary_cross_entropy(
        torch.sigmoid(logits[:, 0] / 3), torch.sigmoid(torch.logit(teacher[:, 0]) / 3), reduction="none"
    )
    real = functional.binary_cross_entropy(torch.sigmoid(logits[0, 0]), labels[0, 0])
    assert float(losses[0]) == pytest.approx(float((0.7 * soft[0] + 0.3 * real + soft[1]) / 2), rel=1e-5)
    # The continuous head knows no temperature: seconds are followed as labels are.
    each = [
        float(head_losses(logits[row : row + 1], truth[None], torch.ones(1, 2), 1)[1])
        for row, truth in ((0, teacher[0]), (0, labels[0]), (1, teacher[1]))
    ]
    assert float(losses[1]) == pytest.approx((0.7 * each[0] + 0.3 * each[1] + each[2]) / 2, rel=1e-5)
