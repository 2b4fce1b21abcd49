"""What serves gives the vectors that training had, keeps viewers', and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'millrace[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'millrace[train]'")

import msgspec
import torch

from millrace.base.errors import ConfigError, SchemaError
from millrace.base.ids import Int64Array
from millrace.content.ngrams import UInt16Array
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.viewers import ViewerInputs
from millrace.flywheel.catalogue import catalogue_of
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_retrieval import post_vectors, viewer_vectors
from millrace.inference.retrieval_model import MAX_REMEMBERED, RetrievalModel
from millrace.models.export import export_tables
from millrace.models.retrieval import LearnedRetrieval
from millrace.models.retrieval_config import COLD
from millrace.models.retrieval_export import export_retrieval
from millrace.testing.sample_builders import planted_samples
from millrace.testing.small_towers import export_small_towers, small_towers_config


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return planted_samples(6, n_history=12)  # more than the towers read


@pytest.fixture(scope="module")
def model() -> LearnedRetrieval:
    torch.manual_seed(1)
    config = msgspec.structs.replace(small_towers_config(), reads=(*COLD, "post"))
    return LearnedRetrieval(config).eval()


@pytest.fixture(scope="module")
def served(model: LearnedRetrieval, tmp_path_factory: pytest.TempPathFactory) -> RetrievalModel:
    folder = tmp_path_factory.mktemp("towers")
    export_retrieval(model, folder)
    export_tables(model.tables, folder)
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


def test_viewers_have_the_vectors_that_training_gave_them(
    samples: SampleSet, model: LearnedRetrieval, served: RetrievalModel
) -> None:
    learned = viewer_vectors(model, samples, np.arange(len(samples)))
    for slate in range(len(samples)):
        vector = served.viewer(viewer_of(samples, slate), lambda ids: tokens_of(samples, ids))
        assert np.abs(vector - learned[slate]).max() < 1e-5


def test_posts_have_the_vectors_that_training_gave_them(
    samples: SampleSet, model: LearnedRetrieval, served: RetrievalModel
) -> None:
    posts = catalogue_of(samples).posts
    vectors = served.posts(posts)
    assert np.abs(vectors - post_vectors(model, catalogue_of(samples))).max() < 1e-5
    alone = np.concatenate([served.posts(posts.take(np.array([row]))) for row in range(posts.n)])
    assert np.abs(vectors - alone).max() < 1e-6
    assert served.posts(posts.take(np.empty(0, dtype=np.intp))).shape == (0, 8)


def test_many_posts_at_once_are_each_encoded(samples: SampleSet, served: RetrievalModel) -> None:
    posts = catalogue_of(samples).posts
    many = posts.take(np.arange(600) % posts.n)
    assert np.abs(served.posts(many)[:300] - served.posts(many.take(np.arange(300)))).max() < 1e-6
    assert np.allclose(np.square(served.posts(many)).sum(axis=1), 1.0, atol=1e-5)


def test_a_viewer_is_encoded_again_once_they_have_acted(samples: SampleSet, served: RetrievalModel) -> None:
    viewer = viewer_of(samples, 0)
    asked: list[int] = []

    def tokens(ids: Int64Array) -> UInt16Array:
        asked.append(len(ids))
        return tokens_of(samples, ids)

    served.warm()  # forgets
    first = served.viewer(viewer, tokens)
    assert served.viewer(viewer, tokens) is first
    assert asked == [8]
    changed = replace(viewer, dense=viewer.dense + np.uint8(8))
    assert not np.array_equal(served.viewer(changed, tokens), first)
    assert MAX_REMEMBERED > 1


def test_towers_of_other_features_are_refused(tmp_path: Path) -> None:
    export_small_towers(tmp_path)
    with pytest.raises(SchemaError, match="other features"):
        RetrievalModel.open(tmp_path, "another schema")


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
