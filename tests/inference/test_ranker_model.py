"""What serves reads what was learned: floats, and predictions, are those of training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from millrace.base.errors import ConfigError, SchemaError
from millrace.base.ids import Int64Array
from millrace.content.ngrams import UInt16Array
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.viewers import ViewerInputs
from millrace.flywheel.ranker_batches import assembled, ranker_batch
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_ranker import predicted
from millrace.inference.assembler import Assembler
from millrace.inference.ranker_model import RankerModel
from millrace.inference.tables import EmbeddingTables, mean_rows, mean_rows_reference
from millrace.models.config import N_SURFACES, RankerConfig, TableConfig, TrunkConfig
from millrace.models.export import export_ranker, export_tables
from millrace.models.learned_ranker import LearnedRanker
from millrace.testing.sample_builders import planted_samples

TRUNK = TrunkConfig(
    d=16, n_layers=2, n_heads=2, max_history=8, tables=TableConfig(width=8, n_post_rows=64, n_author_rows=16)
)


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return planted_samples(4)


@pytest.fixture(scope="module")
def model(samples: SampleSet) -> LearnedRanker:
    torch.manual_seed(1)
    config = RankerConfig(
        trunk=TRUNK, actions=samples.meta.actions, n_dense=samples.dense.shape[1], schema=samples.meta.schema
    )
    return LearnedRanker(config).eval()


@pytest.fixture(scope="module")
def folder(model: LearnedRanker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranker")
    export_ranker(model.ranker, made)
    export_tables(model.tables, made)
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


def tokens_of(samples: SampleSet, post_ids: Int64Array) -> UInt16Array:
    return samples.text_tokens[samples.texts_of(post_ids)]


def test_serving_assembles_the_floats_that_training_learned_from(
    samples: SampleSet, model: LearnedRanker, folder: Path
) -> None:
    assembler = Assembler(model.ranker.config, EmbeddingTables.open(folder, TRUNK.tables))
    for slate in range(len(samples)):
        batch = ranker_batch(samples, np.array([slate]), model.ranker.config)
        with torch.no_grad():
            profile, history, mask, candidates = (part.numpy() for part in assembled(batch, model.tables))
        viewer, rows = inputs_of(samples, slate)
        mine = assembler.viewer(viewer, lambda ids: tokens_of(samples, ids))
        assert np.abs(mine.profile - profile).max() < 1e-6
        assert np.abs(mine.history - history).max() < 1e-6
        assert mine.mask.tolist() == (mask == 0).tolist()
        posts = assembler.posts(rows, tokens_of(samples, rows.post_ids))
        assert np.abs(posts - candidates[0, :, : posts.shape[1]]).max() < 1e-6


def test_a_served_model_predicts_what_the_trained_one_does(
    samples: SampleSet, model: LearnedRanker, folder: Path
) -> None:
    served = RankerModel.open(folder, samples.meta.schema)
    for slate in range(len(samples)):
        probs = served.predict(*inputs_of(samples, slate), lambda ids: tokens_of(samples, ids))
        assert np.abs(probs - predicted(model, samples, np.array([slate]))).max() < 1e-5
    viewer, rows = inputs_of(samples, 0)
    none = rows.take(np.empty(0, dtype=np.intp))
    assert served.predict(viewer, none, lambda ids: tokens_of(samples, ids)).shape == (0, len(samples.meta.actions))
    served.close()


def test_surfaces_of_a_wide_model_are_in_their_place(samples: SampleSet) -> None:
    config = RankerConfig(trunk=TrunkConfig(tables=TableConfig(width=64)), actions=samples.meta.actions, n_dense=1)
    tables = EmbeddingTables(*(np.zeros((300, 64), dtype=np.float32) for _ in range(4)))
    viewer, _ = inputs_of(samples, 0)
    surfaces = np.arange(viewer.history.n, dtype=np.uint8) % 3
    viewer = replace(viewer, history=viewer.history._replace(surfaces=surfaces))
    floats = Assembler(config, tables).viewer(viewer, lambda ids: np.zeros((len(ids), 64), dtype=np.uint16)).history[0]
    found = floats[:, config.history_width - N_SURFACES :]
    assert found.sum(axis=1).tolist() == (surfaces > 0).tolist()
    assert found[surfaces > 0].argmax(axis=1).tolist() == surfaces[surfaces > 0].tolist()


def test_a_second_page_comes_from_the_caches_and_is_the_same_to_the_bit(samples: SampleSet, folder: Path) -> None:
    served = RankerModel.open(folder, samples.meta.schema)
    viewer, rows = inputs_of(samples, 0)
    first = served.predict(viewer, rows, lambda ids: tokens_of(samples, ids))
    again = served.predict(viewer, rows, lambda ids: tokens_of(samples, ids))
    np.testing.assert_array_equal(again, first)
    assert served.counts.viewers[:2] == (1, 1)
    assert served.counts.posts.n_hits >= rows.n


def test_a_text_of_the_history_that_changes_is_read_anew(samples: SampleSet, folder: Path) -> None:
    served = RankerModel.open(folder, samples.meta.schema)
    viewer, rows = inputs_of(samples, 0)
    first = served.predict(viewer, rows, lambda ids: tokens_of(samples, ids))
    gone = served.predict(viewer, rows, lambda ids: np.zeros_like(tokens_of(samples, ids)))
    assert served.counts.viewers[:2] == (0, 2)
    assert np.abs(gone - first).max() > 1e-6
    fresh = RankerModel.open(folder, samples.meta.schema)
    np.testing.assert_array_equal(gone, fresh.predict(viewer, rows, lambda ids: np.zeros_like(tokens_of(samples, ids))))


def test_a_model_whose_weights_are_missing_is_refused(folder: Path, samples: SampleSet, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.name != "weights.npz":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"weights\.npz"):
        RankerModel.open(tmp_path, samples.meta.schema)


def test_a_model_of_other_features_is_refused(folder: Path) -> None:
    with pytest.raises(SchemaError, match="other features"):
        RankerModel.open(folder, "another schema")


def test_a_damaged_table_is_named(samples: SampleSet, model: LearnedRanker, tmp_path: Path) -> None:
    export_tables(model.tables, tmp_path)
    np.save(tmp_path / "authors.npy", np.zeros((3, 8), dtype=np.float32))
    with pytest.raises(ConfigError, match=r"authors\.npy"):
        EmbeddingTables.open(tmp_path, TRUNK.tables)


def test_means_leave_padding_out_and_agree_with_the_reference() -> None:
    rng = np.random.default_rng(1)
    table = rng.normal(size=(50, 5)).astype(np.float32)
    table[0] = 0.0
    rows = rng.integers(0, 50, (40, 64)).astype(np.uint16)
    rows[3] = 0
    rows[:, 40:] = 0
    assert np.abs(mean_rows(table, rows) - mean_rows_reference(table, rows)).max() < 1e-6
    assert not mean_rows(table, rows)[3].any()
