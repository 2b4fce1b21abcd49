"""A ranker with semantic ids, social and media vectors: floats are those of training, what is absent is masked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from millrace.base.errors import SchemaError, StoreError
from millrace.base.ids import Int64Array
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.vector_inputs import TEXT_SCALE, VectorInputs
from millrace.features.encoding.vector_sources import VectorSources
from millrace.features.encoding.viewers import ViewerInputs
from millrace.features.social_history import SocialHistory
from millrace.features.social_network import SocialNetwork, SocialShape
from millrace.features.social_vectors import SocialVectors
from millrace.flywheel.ranker_batches import RankerBatch, assembled, ranker_batch
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.sample_vectors import SampleVectors, sized
from millrace.flywheel.train_ranker import predicted
from millrace.inference.assembler import Assembler
from millrace.inference.model_vectors import own_social_vectors
from millrace.inference.ranker_model import RankerModel
from millrace.inference.tables import EmbeddingTables
from millrace.models.config import RankerConfig, TableConfig, TrunkConfig
from millrace.models.export import export_ranker, export_tables
from millrace.models.learned_ranker import LearnedRanker
from millrace.testing.sample_builders import HOUR_MS, planted_samples

TRUNK = TrunkConfig(
    d=16, n_layers=2, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)
N_MEDIA, N_TEXT = 5, 64
SHAPE = SocialShape(n_layers=1, dim=6, hidden=4, n_signature=64)
MOMENTS_MS = np.array([0, 2 * HOUR_MS], dtype=np.int64)


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    planted = planted_samples(4)
    authors = 1 + np.arange(planted.n_rows) % 3  # author 3 is one that the social encoder never saw
    vectors = np.array(planted.text_vectors)
    vectors[0] = 0  # a post whose text says nothing has no semantic id
    return replace(planted, author_ids=authors, text_vectors=vectors)


@pytest.fixture(scope="module")
def sources(samples: SampleSet) -> VectorSources:
    rng = np.random.default_rng(3)
    books = rng.standard_normal((2, 5, 64)).astype(np.float32)
    network = SocialNetwork(
        SHAPE, {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPE.weight_shapes().items()}
    )
    users = np.unique([1, 2, *samples.viewers[:3].tolist()])
    history = SocialHistory(
        encoder=network.digest(),
        learned_until_ms=0,
        as_of_ms=MOMENTS_MS,
        starts=np.array([0, len(users), 2 * len(users)]),
        user_ids=np.tile(users, 2),
        values=rng.standard_normal((2 * len(users), SHAPE.dim)).astype(np.float32),
    )
    return VectorSources(
        Codebooks(SemanticIdSettings(n_levels=2, n_codes=5, n_dims=64), books), SocialVectors(network), history
    )


def media_of(post_ids: Int64Array) -> tuple[np.ndarray, np.ndarray]:
    """Every second post has a vector, made of its id; the others' numbers must not be read."""
    vectors = (post_ids[:, None] % np.arange(7, 7 + N_MEDIA)).astype(np.float32)
    return vectors, post_ids % 2 == 0


@pytest.fixture(scope="module")
def config(samples: SampleSet, sources: VectorSources) -> RankerConfig:
    return RankerConfig(
        trunk=msgspec.structs.replace(sized(TRUNK, sources), media_width=N_MEDIA, text_width=N_TEXT),
        actions=samples.meta.actions,
        n_dense=samples.dense.shape[1],
        schema=samples.meta.schema,
        semantic_ids=sources.semantic_ids_digest,
        social=sources.social_digest,
    )


@pytest.fixture(scope="module")
def model(config: RankerConfig, sources: VectorSources) -> LearnedRanker:
    torch.manual_seed(1)
    return LearnedRanker(config, sources).eval()


@pytest.fixture(scope="module")
def folder(model: LearnedRanker, sources: VectorSources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranker")
    export_ranker(model.ranker, made)
    export_tables(model.tables, made)
    sources.save_served(made)
    return made


def inputs_of(samples: SampleSet, slate: int) -> tuple[ViewerInputs, CandidateInputs]:
    tokens = slice(*samples.history_starts[slate : slate + 2].tolist())
    rows = slice(*samples.starts[slate : slate + 2].tolist())
    history = HistoryTokens(
        samples.history_posts[tokens],
        samples.history_authors[tokens],
        samples.history_actions[tokens],
        samples.history_dense[tokens],
        samples.history_surfaces[tokens],
        int(samples.newest_ms[slate]),
    )
    viewer = ViewerInputs(
        int(samples.viewers[slate]),
        history,
        samples.languages[slate],
        samples.bios[slate],
        samples.profile_dense[slate],
    )
    candidates = CandidateInputs(
        samples.post_ids[rows], samples.author_ids[rows], samples.row_languages[rows], samples.dense[rows]
    )
    return viewer, candidates


def served_vectors(samples: SampleSet, sources: VectorSources, slate: int, has_media: bool = True) -> VectorInputs:
    """What a server would have looked up at the slate's moment."""
    books, history = sources.codebooks, sources.social_history
    assert books is not None
    assert history is not None
    return VectorInputs(
        codes_of=lambda ids: books.encode(samples.text_vectors[samples.texts_of(ids)]),
        social_of=lambda ids: history.vectors(ids, np.full(len(ids), samples.now_ms[slate])),
        media_of=media_of if has_media else None,
        texts_of=lambda ids: np.asarray(samples.text_vectors[samples.texts_of(ids)]),
    )


def training_parts(batch: RankerBatch, model: LearnedRanker) -> tuple[np.ndarray, ...]:
    with torch.no_grad():
        return tuple(part.numpy() for part in assembled(batch, model.tables))


def test_serving_assembles_the_floats_that_training_learned_from(
    samples: SampleSet, sources: VectorSources, config: RankerConfig, model: LearnedRanker, folder: Path
) -> None:
    assembler = Assembler(config, EmbeddingTables.open(folder, config.trunk.tables))
    vectors = SampleVectors(samples, sources, media_of)
    for slate in range(len(samples)):
        batch = ranker_batch(samples, np.array([slate]), config, vectors=vectors)
        profile, history, _, candidates = training_parts(batch, model)
        viewer, rows = inputs_of(samples, slate)
        looked_up = served_vectors(samples, sources, slate)
        mine = assembler.viewer(viewer, lambda ids: samples.text_tokens[samples.texts_of(ids)], looked_up)
        assert np.abs(mine.profile - profile).max() < 1e-6
        assert np.abs(mine.history - history).max() < 1e-6
        floats = assembler.posts(rows, samples.text_tokens[samples.texts_of(rows.post_ids)], looked_up)
        assert floats.shape[1] == config.candidate_width - config.n_dense
        assert np.abs(floats - candidates[0, :, : floats.shape[1]]).max() < 1e-6


def test_every_place_holds_what_belongs_there(
    samples: SampleSet, sources: VectorSources, config: RankerConfig, model: LearnedRanker
) -> None:
    vectors = SampleVectors(samples, sources, media_of)
    batch = ranker_batch(samples, np.arange(4), config, vectors=vectors)
    profile, history, _, candidates = training_parts(batch, model)
    width, n_social = config.trunk.tables.width, SHAPE.dim
    assert sources.codebooks is not None
    sids = model.tables.sids.weight.detach().numpy()
    codes = sources.codebooks.encode(samples.text_vectors[samples.texts_of(samples.post_ids)])
    both = np.where(codes[:, :1] >= 0, sids[1 + codes[:, 0]] + sids[6 + codes[:, 1]], 0.0)
    found = candidates[:, :, 3 * width : 4 * width].reshape(-1, width)
    assert np.abs(found - both).max() < 1e-6
    assert (codes[:, 0] >= 0).any()
    assert history[:, :, 3 * width : 4 * width].any()
    # Viewer 3 is not known to the encoder, author 3 is not either; two moments have two vectors.
    own = profile[:, 2 * width : 2 * width + n_social]
    assert own.any(axis=1).tolist() == [True, True, True, False]
    texts = candidates[:, :, 5 * width : 5 * width + N_TEXT]
    assert np.linalg.norm(texts, axis=2)[texts.any(axis=2)] == pytest.approx(TEXT_SCALE, rel=1e-5)
    at = 5 * width + N_TEXT
    authors = candidates[:, :, at : at + n_social]
    assert authors.any(axis=2).tolist() == (samples.author_ids.reshape(4, -1) != 3).tolist()
    first = int(np.flatnonzero(samples.author_ids.reshape(4, -1)[0] == 1)[0])
    later = int(np.flatnonzero(samples.author_ids.reshape(4, -1)[2] == 1)[0])
    assert (authors[0, first] != authors[2, later]).any()
    media = candidates[:, :, at + n_social : at + n_social + N_MEDIA + 1].reshape(-1, N_MEDIA + 1)
    assert media[:, -1].tolist() == (samples.post_ids % 2 == 0).tolist()
    assert not media[samples.post_ids % 2 == 1].any()
    assert np.array_equal(history[0, :, -1], (samples.history_posts[:8] % 2 == 0).astype(np.float32))


def test_absent_media_are_masked_and_a_ranker_without_their_place_has_none(
    samples: SampleSet, sources: VectorSources, config: RankerConfig, model: LearnedRanker, folder: Path
) -> None:
    batch = ranker_batch(samples, np.arange(2), config, vectors=SampleVectors(samples, sources))
    assert batch.media.shape == (2, 6, N_MEDIA + 1)
    assert not batch.media.any()
    assert not batch.history_media.any()
    assembler = Assembler(config, EmbeddingTables.open(folder, config.trunk.tables))
    viewer, rows = inputs_of(samples, 0)
    looked_up = served_vectors(samples, sources, 0, has_media=False)
    history = assembler.viewer(viewer, lambda ids: samples.text_tokens[samples.texts_of(ids)], looked_up).history
    assert not history[:, :, -(N_MEDIA + 1) :].any()
    floats = assembler.posts(rows, samples.text_tokens[samples.texts_of(rows.post_ids)], looked_up)
    at = 5 * config.trunk.tables.width + N_TEXT + SHAPE.dim
    assert floats.shape[1] == at + N_MEDIA + 1
    assert not floats[:, at:].any()
    assert (
        RankerConfig(trunk=TRUNK).candidate_width + N_MEDIA + 1
        == RankerConfig(trunk=msgspec.structs.replace(TRUNK, media_width=N_MEDIA)).candidate_width
    )


def test_a_served_model_predicts_what_the_trained_one_does(
    samples: SampleSet, sources: VectorSources, model: LearnedRanker, folder: Path
) -> None:
    served = RankerModel.open(folder, samples.meta.schema)
    assert served.codebooks is not None
    assert served.codebooks.digest() == sources.semantic_ids_digest
    for slate in range(len(samples)):
        viewer, rows = inputs_of(samples, slate)
        probs = served.predict(
            viewer,
            rows,
            lambda ids: samples.text_tokens[samples.texts_of(ids)],
            served_vectors(samples, sources, slate, has_media=False),
        )
        assert np.abs(probs - predicted(model, samples, np.array([slate]))).max() < 1e-5
    with pytest.raises(SchemaError, match="nothing gives them"):
        served.predict(viewer, rows, lambda ids: samples.text_tokens[samples.texts_of(ids)])
    served.close()


def test_codebooks_and_encoders_of_another_training_are_refused(
    samples: SampleSet, sources: VectorSources, config: RankerConfig, model: LearnedRanker, tmp_path: Path
) -> None:
    export_ranker(model.ranker, tmp_path)
    export_tables(model.tables, tmp_path)
    with pytest.raises(StoreError, match=r"semantic_ids\.npz"):
        RankerModel.open(tmp_path, samples.meta.schema)
    assert sources.codebooks is not None
    Codebooks(sources.codebooks.settings, -sources.codebooks.vectors).save(tmp_path)
    with pytest.raises(SchemaError, match="trained with"):
        RankerModel.open(tmp_path, samples.meta.schema)
    sources.save_served(tmp_path)
    assert own_social_vectors(tmp_path, config.social) is not None
    assert own_social_vectors(tmp_path, "") is None
    with pytest.raises(SchemaError, match="social encoder"):
        own_social_vectors(tmp_path, "f" * 32)
    with pytest.raises(SchemaError, match="not those that the model reads"):
        ranker_batch(samples, np.arange(2), config)
