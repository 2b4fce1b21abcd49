"""What serves gives the vectors that training had, keeps viewers', and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

import msgspec
import torch

from millrace.base.errors import ConfigError, SchemaError, StoreError
from millrace.base.ids import Int64Array
from millrace.content.ngrams import UInt16Array
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.vector_inputs import VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.flywheel.catalogue import catalogue_of
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.tower_vectors import post_vectors, viewer_vectors
from millrace.inference.retrieval_model import MAX_REMEMBERED, RetrievalModel
from millrace.models.export import export_tables
from millrace.models.retrieval import LearnedRetrieval
from millrace.models.retrieval_config import COLD
from millrace.models.retrieval_export import export_retrieval
from millrace.testing.sample_builders import planted_samples
from millrace.testing.small_towers import export_small_towers, small_sources, small_towers_config


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return planted_samples(6, n_history=12)  # more than the towers read


@pytest.fixture(scope="module")
def model() -> LearnedRetrieval:
    torch.manual_seed(1)
    config = msgspec.structs.replace(small_towers_config(), reads=(*COLD, "post"))
    return LearnedRetrieval(config, small_sources()).eval()


@pytest.fixture(scope="module")
def served(model: LearnedRetrieval, tmp_path_factory: pytest.TempPathFactory) -> RetrievalModel:
    folder = tmp_path_factory.mktemp("towers")
    export_retrieval(model, folder)
    export_tables(model.tables, folder)
    model.sources.save_served(folder)
    return RetrievalModel.open(folder, model.config.schema, "v1")


def viewer_of(samples: SampleSet, slate: int) -> ViewerInputs:
    tokens = slice(*samples.history_starts[slate : slate + 2].tolist())
    history = HistoryTokens(
        samples.history_posts[tokens],
        samples.history_authors[tokens],
        samples.history_actions[tokens],
        samples.history_dense[tokens],
        samples.history_surfaces[tokens],
        int(samples.newest_ms[slate]),
    )
    return ViewerInputs(
        int(samples.viewers[slate]),
        history,
        samples.languages[slate],
        samples.bios[slate],
        samples.profile_dense[slate],
    )


def tokens_of(samples: SampleSet, post_ids: Int64Array) -> UInt16Array:
    return samples.text_tokens[samples.texts_of(post_ids)]


@pytest.fixture(scope="module")
def vectors(samples: SampleSet, served: RetrievalModel) -> VectorInputs:
    codebooks = served.codebooks
    assert codebooks is not None

    def texts_of(post_ids: Int64Array) -> np.ndarray:
        return np.asarray(samples.text_vectors[samples.texts_of(post_ids)])

    return VectorInputs(codes_of=lambda ids: codebooks.encode(texts_of(ids)), texts_of=texts_of)


def test_viewers_have_the_vectors_that_training_gave_them(
    samples: SampleSet, model: LearnedRetrieval, served: RetrievalModel, vectors: VectorInputs
) -> None:
    learned = viewer_vectors(model, samples, np.arange(len(samples)))
    for slate in range(len(samples)):
        vector = served.viewer(viewer_of(samples, slate), lambda ids: tokens_of(samples, ids), vectors)
        assert np.abs(vector - learned[slate]).max() < 1e-5


def test_posts_have_the_vectors_that_training_gave_them(
    samples: SampleSet, model: LearnedRetrieval, served: RetrievalModel, vectors: VectorInputs
) -> None:
    posts = catalogue_of(samples).posts
    found = served.posts(posts, vectors)
    assert np.abs(found - post_vectors(model, samples, catalogue_of(samples))).max() < 1e-5
    alone = np.concatenate([served.posts(posts.take(np.array([row])), vectors) for row in range(posts.n)])
    assert np.abs(found - alone).max() < 1e-6
    assert served.posts(posts.take(np.empty(0, dtype=np.intp)), vectors).shape == (0, 8)


def test_what_is_read_must_be_given(samples: SampleSet, served: RetrievalModel) -> None:
    posts = catalogue_of(samples).posts
    with pytest.raises(SchemaError, match="semantic ids"):
        served.posts(posts)
    served.warm()  # forgets
    with pytest.raises(SchemaError, match="semantic ids"):
        served.viewer(viewer_of(samples, 1), lambda ids: tokens_of(samples, ids))


def test_a_post_without_text_is_masked_not_refused(samples: SampleSet, served: RetrievalModel) -> None:
    n_levels = served.config.trunk.tables.n_sid_levels
    nothing = VectorInputs(
        codes_of=lambda ids: np.full((len(ids), n_levels), -1, dtype=np.int16),
        texts_of=lambda ids: np.zeros((len(ids), 64), dtype=np.int8),
    )
    found = served.posts(catalogue_of(samples).posts, nothing)
    assert np.allclose(np.square(found).sum(axis=1), 1.0, atol=1e-5)


def test_many_posts_at_once_are_each_encoded(samples: SampleSet, served: RetrievalModel, vectors: VectorInputs) -> None:
    posts = catalogue_of(samples).posts
    many = posts.take(np.arange(600) % posts.n)
    found = served.posts(many, vectors)
    assert np.abs(found[:300] - served.posts(many.take(np.arange(300)), vectors)).max() < 1e-6
    assert np.allclose(np.square(found).sum(axis=1), 1.0, atol=1e-5)


def test_a_viewer_is_encoded_again_once_they_have_acted(
    samples: SampleSet, served: RetrievalModel, vectors: VectorInputs
) -> None:
    viewer = viewer_of(samples, 0)
    asked: list[int] = []

    def tokens(ids: Int64Array) -> UInt16Array:
        asked.append(len(ids))
        return tokens_of(samples, ids)

    served.warm()  # forgets
    first = served.viewer(viewer, tokens, vectors)
    assert served.viewer(viewer, tokens, vectors) is first
    assert asked == [8, 8, 8]  # for the key and the tower; then for the key alone
    changed = replace(viewer, dense=viewer.dense + np.uint8(8))
    assert not np.array_equal(served.viewer(changed, tokens, vectors), first)
    assert MAX_REMEMBERED > 1


@pytest.mark.parametrize("is_erased", [False, True])
def test_a_viewer_is_encoded_again_once_a_text_of_their_history_was_edited_or_erased(
    samples: SampleSet, served: RetrievalModel, vectors: VectorInputs, *, is_erased: bool
) -> None:
    viewer = viewer_of(samples, 0)
    edited = viewer.history.post_ids[-1]

    def tokens_now(ids: Int64Array) -> UInt16Array:
        tokens = tokens_of(samples, ids).copy()
        tokens[ids == edited] = 0 if is_erased else 77
        return tokens

    served.warm()  # forgets
    before = served.viewer(viewer, lambda ids: tokens_of(samples, ids), vectors)
    after = served.viewer(viewer, tokens_now, vectors)
    assert not np.array_equal(before, after)
    served.warm()
    assert np.array_equal(served.viewer(viewer, tokens_now, vectors), after)


def test_a_viewer_is_encoded_again_once_a_vector_of_their_history_was_annotated(
    samples: SampleSet, served: RetrievalModel, vectors: VectorInputs
) -> None:
    viewer = viewer_of(samples, 0)

    def texts_now(ids: Int64Array) -> np.ndarray:
        assert vectors.texts_of is not None
        return np.asarray(-vectors.texts_of(ids))

    served.warm()
    before = served.viewer(viewer, lambda ids: tokens_of(samples, ids), vectors)
    after = served.viewer(viewer, lambda ids: tokens_of(samples, ids), replace(vectors, texts_of=texts_now))
    assert not np.array_equal(before, after)


def test_towers_of_other_features_are_refused(tmp_path: Path) -> None:
    export_small_towers(tmp_path)
    with pytest.raises(SchemaError, match="other features"):
        RetrievalModel.open(tmp_path, "another schema")


def test_towers_of_other_codebooks_are_refused(tmp_path: Path) -> None:
    config = export_small_towers(tmp_path)
    (tmp_path / "semantic_ids.npz").unlink()
    with pytest.raises(StoreError, match="codebooks"):
        RetrievalModel.open(tmp_path, config.schema)
    codebooks = small_sources().codebooks
    assert codebooks is not None
    replace(codebooks, vectors=-codebooks.vectors).save(tmp_path)
    with pytest.raises(SchemaError, match="not those"):
        RetrievalModel.open(tmp_path, config.schema)


def test_towers_that_read_no_vectors_need_none(samples: SampleSet, tmp_path: Path) -> None:
    # As those of before there were any: their sizes say so, and nothing but their own graph knows how they are made.
    config = small_towers_config()
    tables = msgspec.structs.replace(config.trunk.tables, n_sid_levels=0)
    trunk = msgspec.structs.replace(config.trunk, tables=tables, text_width=0)
    plain = LearnedRetrieval(msgspec.structs.replace(config, trunk=trunk, semantic_ids="")).eval()
    export_retrieval(plain, tmp_path)
    export_tables(plain.tables, tmp_path)
    path = tmp_path / "retrieval.json"
    path.write_bytes(path.read_bytes().replace(b',\n  "semantic_ids": ""', b""))
    assert b"semantic_ids" not in path.read_bytes()
    opened = RetrievalModel.open(tmp_path, config.schema)
    found = opened.posts(catalogue_of(samples).posts)
    assert np.abs(found - post_vectors(plain, samples, catalogue_of(samples))).max() < 1e-5


@pytest.mark.parametrize("name", ["retrieval.json", "post_tower.npz", "encode_viewer.onnx", "authors.npy"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    config = export_small_towers(tmp_path)
    (tmp_path / name).write_bytes(b"half a fi")
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        RetrievalModel.open(tmp_path, config.schema)


def test_a_tower_of_another_size_is_named(tmp_path: Path) -> None:
    config = export_small_towers(tmp_path)
    with np.load(tmp_path / "post_tower.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "post_tower.npz", **{**arrays, "out.bias": np.zeros(3, dtype=np.float32)})
    with pytest.raises(ConfigError, match=r"out\.bias"):
        RetrievalModel.open(tmp_path, config.schema)
