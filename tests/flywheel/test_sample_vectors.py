"""Rankers that read semantic ids and social vectors: they learn them, carry them along, and know nothing too early."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from millrace.base.errors import SourceDataError
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.features.encoding.vector_sources import VectorSources
from millrace.features.social_history import SocialHistory
from millrace.features.social_network import SocialNetwork, SocialShape
from millrace.features.social_vectors import SocialVectors
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_vectors import SampleVectors, sized
from millrace.flywheel.train_ranker import RankerTraining, load_ranker, predicted, train_ranker
from millrace.models.config import TableConfig, TrunkConfig
from millrace.models.learned_ranker import LearnedRanker
from millrace.testing.sample_builders import HOUR_MS, planted_samples

SHAPE = SocialShape(n_layers=1, dim=4, hidden=6, n_signature=64)
SMALL = TrunkConfig(
    d=16, n_layers=1, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)
QUICK = RankerTraining(trunk=SMALL, n_epochs=2, n_slates=20, n_warm_up=2, report_every=2)
CODEBOOKS = Codebooks(
    SemanticIdSettings(n_levels=2, n_codes=8, n_dims=64),
    np.random.default_rng(1).standard_normal((2, 8, 64)).astype(np.float32),
)


def sources_of(samples: SampleSet, learned_until_ms: int = 0) -> VectorSources:
    rng = np.random.default_rng(2)
    network = SocialNetwork(
        SHAPE, {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPE.weight_shapes().items()}
    )
    users = np.unique(np.concatenate([samples.viewers, samples.author_ids]))
    history = SocialHistory(
        encoder=network.digest(),
        learned_until_ms=learned_until_ms,
        as_of_ms=np.zeros(1, dtype=np.int64),
        starts=np.array([0, len(users)]),
        user_ids=users,
        values=rng.standard_normal((len(users), SHAPE.dim)).astype(np.float32),
    )
    return VectorSources(CODEBOOKS, SocialVectors(network), history)


def test_a_ranker_learns_from_its_sources_and_carries_them_with_it(tmp_path: Path) -> None:
    samples = planted_samples(60)
    sources = sources_of(samples)
    model, report = train_ranker(samples, QUICK, folder=tmp_path, sources=sources)
    assert report.ranker.trunk == sized(SMALL, sources)
    assert (report.ranker.trunk.tables.n_sid_levels, report.ranker.trunk.social_width) == (2, 4)
    torch.manual_seed(QUICK.seed)
    begun = LearnedRanker(report.ranker).tables.sids.weight
    is_read = np.unique(SampleVectors(samples, sources).semantic_ids(np.arange(len(samples.text_posts))))
    has_moved = (model.tables.sids.weight != begun).any(dim=1).numpy()
    assert np.flatnonzero(has_moved).tolist() == is_read.tolist()
    loaded, _ = load_ranker(tmp_path)
    some = np.arange(5)
    assert np.array_equal(predicted(loaded, samples, some), predicted(model, samples, some))
    served = {path.name for path in (tmp_path / "served").iterdir()}
    assert {"semantic_ids.npz", "social.npz", "sids.npy"} <= served
    assert "social_history.npz" not in served
    # What another training leaves in the same folder is what it reads.
    train_ranker(samples, QUICK, folder=tmp_path, sources=VectorSources(CODEBOOKS))
    assert not (tmp_path / "served" / "social.npz").exists()
    assert load_ranker(tmp_path)[0].sources.social is None


def test_an_encoder_that_knows_what_is_validated_on_is_refused(tmp_path: Path) -> None:
    samples = planted_samples(60)
    first_held_out_ms = 54 * HOUR_MS
    train_ranker(samples, QUICK, folder=tmp_path, sources=sources_of(samples, first_held_out_ms))
    with pytest.raises(SourceDataError, match="newer than the first page"):
        train_ranker(samples, QUICK, folder=tmp_path, sources=sources_of(samples, first_held_out_ms + 1))
