"""The ranker's loop: it learns what is planted, goes on after a kill with the same bytes, and calibrates itself."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import Action, ActionSpace
from millrace.base.errors import ConfigError, SourceDataError
from millrace.flywheel.checkpointing import CHECKPOINT_NAME
from millrace.flywheel.metrics import auc
from millrace.flywheel.ranker_batches import alike_in_length, assembled, ranker_batch
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_ranker import (
    MODEL_NAME,
    RankerTraining,
    load_ranker,
    predicted,
    train_ranker,
)
from millrace.models.config import RankerConfig, TableConfig, TrunkConfig
from millrace.models.learned_ranker import LearnedRanker
from millrace.testing.sample_builders import planted_samples

SMALL = TrunkConfig(
    d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)
QUICK = RankerTraining(trunk=SMALL, n_epochs=2, n_slates=20, n_warm_up=2, report_every=4, table_learning_rate=0.1)


class KilledError(Exception):
    """The process ended here."""


def test_it_learns_who_likes_what_from_histories_alone(tmp_path: Path) -> None:
    samples = planted_samples(400)
    training = msgspec.structs.replace(QUICK, n_epochs=25, learning_rate=1e-2, is_position_debiased=False)
    model, report = train_ranker(samples, training, folder=tmp_path)
    fresh = planted_samples(100, seed=1).take(np.arange(60, 100))
    probs = predicted(model, fresh, np.arange(len(fresh)))
    assert auc(fresh.labels[:, Action.LIKE] > 0, probs[:, Action.LIKE]) > 0.85
    assert report.positives["like"] == int(samples.labels[: report.n_rows, Action.LIKE].sum())
    assert np.isfinite(probs).all()


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    samples = planted_samples(100)
    whole, _ = train_ranker(samples, QUICK, folder=tmp_path / "whole")

    def killed_at_6(done: int, _all: int) -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        train_ranker(samples, QUICK, folder=tmp_path / "cut", on_progress=killed_at_6)
    assert (tmp_path / "cut" / CHECKPOINT_NAME).exists()
    steps: list[int] = []
    resumed, _ = train_ranker(
        samples, QUICK, folder=tmp_path / "cut", on_progress=lambda done, _all: steps.append(done)
    )
    assert steps[0] == 5  # from the checkpoint of step 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_what_was_written_is_loaded_and_predicts_the_same(tmp_path: Path) -> None:
    samples = planted_samples(60)
    model, report = train_ranker(samples, QUICK, folder=tmp_path)
    loaded, told = load_ranker(tmp_path)
    some = np.arange(7)
    assert np.array_equal(predicted(model, samples, some), predicted(loaded, samples, some))
    assert told == report
    assert (tmp_path / MODEL_NAME).exists()
    assert not (tmp_path / CHECKPOINT_NAME).exists()


def test_a_single_task_twin_leaves_the_other_heads_where_they_began(tmp_path: Path) -> None:
    samples = planted_samples(60)
    training = msgspec.structs.replace(QUICK, heads=("like",), borrowed_weight=0.5, is_uncertainty_weighted=True)
    model, _ = train_ranker(samples, training, folder=tmp_path)
    position = model.ranker.position_bias.weight
    assert not position[:, Action.REPORT].any()
    assert position[1:6, Action.LIKE].any()


def test_looks_without_a_place_teach_nothing_about_any_place() -> None:
    torch.manual_seed(1)
    config = RankerConfig(trunk=SMALL, actions=ActionSpace().names, n_dense=4)
    ranker = LearnedRanker(config).ranker
    with torch.no_grad():
        ranker.position_bias.weight.normal_()
    table, zeros = ranker.position_bias.weight, torch.zeros(1, 4, len(config.actions))
    biased = ranker.biased(zeros, torch.tensor([[-1, 0, 5, 9_999]]))[0]
    assert torch.equal(biased, torch.stack([table[63], table[0] - table[0], table[5] - table[0], table[62] - table[0]]))
    ranker.biased(zeros, torch.full((1, 4), -1))[..., Action.LIKE].sum().backward()
    assert table.grad is not None
    assert table.grad.nonzero().tolist() == [[63, Action.LIKE]]


def test_rows_without_a_place_are_marked_in_a_batch() -> None:
    samples = planted_samples(3)
    samples.positions[2] = -1
    config = RankerConfig(trunk=SMALL, actions=samples.meta.actions, n_dense=samples.dense.shape[1])
    batch = ranker_batch(samples, np.arange(2), config)
    assert batch.positions[0].tolist() == [0, 1, -1, 3, 4, 5]


def test_where_no_place_is_known_none_is_learned(tmp_path: Path) -> None:
    samples = planted_samples(60)
    samples.positions[:] = -1
    model, _ = train_ranker(samples, QUICK, folder=tmp_path / "none")
    assert not model.ranker.position_bias.weight.any()
    samples.positions[::2] = 1
    model, _ = train_ranker(samples, QUICK, folder=tmp_path / "some")
    assert model.ranker.position_bias.weight.any(dim=1).nonzero().flatten().tolist() == [0, 1, 63]


def test_the_place_of_padding_and_of_others_changes_nothing() -> None:
    samples = planted_samples(6, n_rows=3)
    config = RankerConfig(trunk=SMALL, actions=samples.meta.actions, n_dense=samples.dense.shape[1])
    torch.manual_seed(1)
    model = LearnedRanker(config)
    whole = predicted(model, samples, np.arange(6))
    alone = np.concatenate([predicted(model, samples, np.array([slate])) for slate in range(6)])
    assert np.abs(whole - alone).max() < 1e-6


def test_a_batch_is_laid_out_as_the_ranker_reads_it() -> None:
    samples = planted_samples(4)
    config = RankerConfig(trunk=SMALL, actions=samples.meta.actions, n_dense=samples.dense.shape[1])
    model = LearnedRanker(config)
    batch = ranker_batch(samples, np.arange(3), config, np.array([2, 8, 100]))
    profile, history, mask, candidates = assembled(batch, model.tables)
    assert profile.shape == (3, config.profile_width)
    assert history.shape == (3, 8, config.history_width)
    assert candidates.shape == (3, 6, config.candidate_width)
    assert (mask == 0).sum(dim=1).tolist() == [3, 9, 9]
    likes = history[:, :, 4 * SMALL.tables.width + Action.LIKE]
    assert likes.sum(dim=1).tolist() == [2, 8, 8]


def test_a_head_that_is_no_action_is_refused(tmp_path: Path) -> None:
    training = msgspec.structs.replace(QUICK, heads=("like", "lick"))
    with pytest.raises(ConfigError, match="head 'lick': not an action; use some of like, reply"):
        train_ranker(planted_samples(40), training, folder=tmp_path)


def test_too_few_slates_are_refused(tmp_path: Path) -> None:
    none: SampleSet = planted_samples(1)
    with pytest.raises(SourceDataError, match="too few slates"):
        train_ranker(none, QUICK, folder=tmp_path)


@given(st.lists(st.integers(0, 128), min_size=1, max_size=300), st.integers(1, 16), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_batches_alike_in_length_hold_every_slate_once(lengths: list[int], n_at_once: int, seed: int) -> None:
    order = alike_in_length(np.array(lengths), n_at_once, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(lengths)))


def test_batches_of_one_sorting_are_alike_in_length() -> None:
    lengths = np.arange(64)
    order = alike_in_length(lengths, 8, np.random.default_rng(3))
    spreads = [int(np.ptp(lengths[order[first : first + 8]])) for first in range(0, 64, 8)]
    assert spreads == [7] * 8
