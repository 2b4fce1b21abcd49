"""`millrace distill`: a ranker's folder and samples in, a pre-ranker that serves and its figures out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.app import cli
from millrace.app.commands.init import make_home
from millrace.app.distilling import distil, student_heads
from millrace.base.actions import Action
from millrace.base.errors import ConfigError, SchemaError
from millrace.flywheel.sample_viewers import viewer_of
from millrace.flywheel.train_pre_ranker import PreRankerTraining
from millrace.flywheel.train_ranker import RankerTraining, train_ranker
from millrace.inference.pre_ranker_model import PreRankerModel
from millrace.models.config import TableConfig, TrunkConfig
from millrace.testing.progress import in_silence
from millrace.testing.sample_builders import planted_samples

TRUNK = TrunkConfig(
    d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranker")
    train_ranker(planted_samples(60), RankerTraining(trunk=TRUNK, n_epochs=1, n_slates=20), folder=folder)
    return folder


def test_a_ranker_becomes_a_pre_ranker_with_figures_beside_its_teachers(ranker: Path, tmp_path: Path) -> None:
    samples = planted_samples(300)
    training = PreRankerTraining(d=8, n_hidden=8, n_interests=2, n_epochs=1, validation_frac=0.4)
    distilled = distil(samples, ranker, training, tmp_path / "out", in_silence)
    served = PreRankerModel.open(tmp_path / "out" / "served", samples.meta.schema)
    assert served.config.tables == TRUNK.tables
    assert served.config.max_history == TRUNK.max_history
    heads = {head.action: head for head in distilled.held_out}
    assert set(heads) == {"like", "not_dwelled"}
    lost = [head.teacher_auc - head.student_auc for head in heads.values()]
    assert distilled.auc_lost == pytest.approx(np.mean(lost))
    assert distilled.teacher_ms > distilled.student_ms > 0
    assert distilled.speed_up == pytest.approx(distilled.teacher_ms / distilled.student_ms)
    assert distilled.n_slates == 300 - 60 - 60  # of the newest 120 one half is measured on, the other chosen by


def test_figures_are_those_of_the_rows() -> None:
    labels, teacher, student = (np.zeros((200, len(Action)), dtype=np.float32) for _ in range(3))
    labels[:40, Action.LIKE] = 1.0
    teacher[:, Action.LIKE] = 0.1
    teacher[:40, Action.LIKE] = 0.9
    student[:, Action.LIKE] = 0.5
    (head,) = student_heads(labels, teacher, student, tuple(action.label for action in Action))
    assert (head.action, head.n_held_out) == ("like", 40)
    assert (head.teacher_auc, head.student_auc) == (1.0, 0.5)


def test_the_viewer_of_a_slate_is_as_it_was_encoded() -> None:
    samples = planted_samples(3)
    viewer = viewer_of(samples, 1)
    assert viewer.viewer_id == samples.viewers[1]
    assert viewer.history.post_ids.tolist() == samples.history_posts[8:16].tolist()


def test_a_single_task_twin_is_no_teacher(tmp_path: Path) -> None:
    samples = planted_samples(60)
    twin = RankerTraining(trunk=TRUNK, n_epochs=1, n_slates=20, heads=("like",))
    train_ranker(samples, twin, folder=tmp_path / "twin")
    with pytest.raises(ConfigError, match="knows of like alone"):
        distil(samples, tmp_path / "twin", PreRankerTraining(n_epochs=1), tmp_path / "out", in_silence)


def test_a_folder_without_a_ranker_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no trained ranker"):
        distil(planted_samples(4), tmp_path, PreRankerTraining(), tmp_path / "out", in_silence)


def test_a_ranker_of_other_features_is_refused(ranker: Path, tmp_path: Path) -> None:
    samples = planted_samples(4)
    other = samples.take(np.arange(4))
    object.__setattr__(other, "meta", msgspec.structs.replace(samples.meta, schema="another"))
    with pytest.raises(SchemaError, match="other features"):
        distil(other, ranker, PreRankerTraining(), tmp_path / "out", in_silence)


@pytest.mark.parametrize("command", [["distill"], ["train", "pre-ranker"]])
def test_the_command_asks_for_a_log_first(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_home(tmp_path / "home")
    assert cli.run([*command, "--home", str(tmp_path / "home")]) == cli.FAILURE
    assert "impressions" in capsys.readouterr().err
