"""The towers' loop: it learns what is planted, also for posts that nobody has seen, and goes on after a kill."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from millrace.base.actions import Action
from millrace.base.errors import ConfigError, SourceDataError
from millrace.flywheel.catalogue import catalogue_of
from millrace.flywheel.checkpointing import CHECKPOINT_NAME
from millrace.flywheel.tower_vectors import post_vectors, viewer_vectors
from millrace.flywheel.train_retrieval import (
    RetrievalTraining,
    load_retrieval,
    positives_of,
    train_retrieval,
)
from millrace.models.config import TableConfig, TrunkConfig
from millrace.testing.sample_builders import planted_samples

SMALL = TrunkConfig(
    d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)
QUICK = RetrievalTraining(
    trunk=SMALL,
    width=8,
    hidden=16,
    table_width=8,
    max_history_frac=1.0,
    n_epochs=2,
    n_slates=20,
    n_random=16,
    n_warm_up=2,
    report_every=4,
    positives=("like",),
    max_age_h=100_000.0,
    table_learning_rate=0.1,
    recall_at=10,
)


class KilledError(Exception):
    """The process ended here."""


def test_viewers_come_to_lie_near_the_posts_of_their_topic(tmp_path: Path) -> None:
    samples = planted_samples(300)
    training = msgspec.structs.replace(QUICK, n_epochs=12, learning_rate=1e-2, n_warm_up=5)
    model, report = train_retrieval(samples, training, folder=tmp_path)
    catalogue = catalogue_of(samples)
    fresh = planted_samples(100, seed=1).take(np.arange(60, 100))
    scores = viewer_vectors(model, fresh, np.arange(len(fresh))) @ post_vectors(model, samples, catalogue).T
    own_topic = fresh.texts_of(fresh.history_posts[fresh.history_starts[:-1]]) % 4
    topic = fresh.texts_of(catalogue.posts.post_ids) % 4
    best = np.argsort(-scores, axis=1)[:, :10]
    assert (topic[best] == own_topic[:, None]).mean() > 0.9
    assert report.n_slates <= len(samples)
    assert report.validation.at[10] > 0.6


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    samples = planted_samples(160)
    whole, _ = train_retrieval(samples, QUICK, folder=tmp_path / "whole")

    def killed_at_6(done: int, _all: int) -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        train_retrieval(samples, QUICK, folder=tmp_path / "cut", on_progress=killed_at_6)
    assert (tmp_path / "cut" / CHECKPOINT_NAME).exists()
    steps: list[int] = []
    resumed, _ = train_retrieval(
        samples, QUICK, folder=tmp_path / "cut", on_progress=lambda done, _all: steps.append(done)
    )
    assert steps[0] == 5  # from the checkpoint of step 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_what_was_written_is_loaded_and_gives_the_same_vectors(tmp_path: Path) -> None:
    samples = planted_samples(60)
    model, report = train_retrieval(samples, msgspec.structs.replace(QUICK, n_epochs=1), folder=tmp_path)
    loaded, told = load_retrieval(tmp_path)
    some, catalogue = np.arange(7), catalogue_of(samples)
    assert np.array_equal(viewer_vectors(model, samples, some), viewer_vectors(loaded, samples, some))
    assert np.array_equal(post_vectors(model, samples, catalogue), post_vectors(loaded, samples, catalogue))
    assert told == report
    assert told.until_ms == int(samples.now_ms.max()) + 1
    assert not (tmp_path / CHECKPOINT_NAME).exists()
    assert len(np.load(tmp_path / "served" / "posts.npy")) == 2  # nobody reads ids of posts


def test_authors_are_learned_with_and_left_out_when_served(tmp_path: Path) -> None:
    samples, once = planted_samples(60), msgspec.structs.replace(QUICK, n_epochs=1)
    catalogue = catalogue_of(samples)
    others = replace(catalogue, posts=catalogue.posts._replace(author_ids=catalogue.posts.author_ids + 1))
    for is_debiased in (True, False):
        training = msgspec.structs.replace(once, is_author_debiased=is_debiased)
        model, report = train_retrieval(samples, training, folder=tmp_path / str(is_debiased))
        found = post_vectors(model, samples, catalogue), post_vectors(model, samples, others)
        assert np.array_equal(*found) == is_debiased
        assert ("author" not in report.retrieval.reads) == is_debiased


def test_what_was_disliked_is_no_positive_and_neither_is_a_repost() -> None:
    samples = planted_samples(20)
    plain = positives_of(samples, ("like",))
    labels, dense = samples.labels.copy(), samples.dense.copy()
    first, second = np.flatnonzero(plain)[:2]
    labels[first, Action.REPORT] = 1.0
    dense[second, samples.meta.dense.index("repost")] = 32
    changed = positives_of(replace(samples, labels=labels, dense=dense), ("like",))
    assert np.flatnonzero(plain != changed).tolist() == [first, second]
    with pytest.raises(ConfigError, match="not an action"):
        positives_of(samples, ("smile",))


def test_too_few_likes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceDataError, match="too few pages"):
        train_retrieval(planted_samples(1), QUICK, folder=tmp_path)
