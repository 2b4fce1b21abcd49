"""The towers' loop: it learns what is planted, also for posts that nobody has seen, and goes on after a kill."""

from pathlib import Path

import msgspec
import numpy as np

from millrace.flywheel.catalogue import catalogue_of
from millrace.flywheel.train_retrieval import (
    RetrievalTraining,
    post_vectors,
    train_retrieval,
    viewer_vectors,
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
    scores = viewer_vectors(model, fresh, np.arange(len(fresh))) @ post_vectors(model, catalogue).T
    own_topic = fresh.texts_of(fresh.history_posts[fresh.history_starts[:-1]]) % 4
    topic = fresh.texts_of(catalogue.posts.post_ids) % 4
    best = np.argsort(-scores, axis=1)[:, :10]
    assert (topic[best] == own_topic[:, None]).mean() > 0.9
    assert report.n_slates <= len(samples)
    assert report.validation.at[10] > 0.6
