"""A served pre-ranker predicts what the trained one does, each candidate for itself, from vectors that are kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from millrace.base.errors import ConfigError, SchemaError
from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.content.config import ContentConfig
from millrace.content.ngrams import UInt16Array
from millrace.content.text_index import TextIndex
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.history import HistoryTokens
from millrace.features.encoding.viewers import ViewerInputs
from millrace.flywheel.pre_ranker_batches import assembled, read_as
from millrace.flywheel.ranker_batches import ranker_batch
from millrace.flywheel.sample_set import SampleSet
from millrace.inference import pre_ranker_model
from millrace.inference.post_vectors import KeptVectors, MadeVectors
from millrace.inference.pre_ranker_model import PreRankerModel
from millrace.inference.tables import EmbeddingTables
from millrace.models.config import PreRankerConfig, TableConfig
from millrace.models.pre_ranker import PreRanker
from millrace.models.pre_ranker_export import export_pre_ranker
from millrace.testing.builders import a_batch_of, a_post_created, a_post_deleted, a_post_edited
from millrace.testing.sample_builders import planted_samples

TABLES = TableConfig(width=8, n_post_rows=64, n_author_rows=16)


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return planted_samples(4, n_rows=9)


@pytest.fixture(scope="module")
def model(samples: SampleSet) -> PreRanker:
    torch.manual_seed(1)
    config = PreRankerConfig(
        d=12,
        n_hidden=16,
        n_interests=3,
        max_history=8,
        tables=TABLES,
        actions=samples.meta.actions,
        n_dense=samples.dense.shape[1],
        schema=samples.meta.schema,
    )
    return PreRanker(config).eval()


@pytest.fixture(scope="module")
def folder(model: PreRanker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pre_ranker")
    export_pre_ranker(model, made)
    return made


@pytest.fixture(scope="module")
def served(folder: Path, samples: SampleSet) -> PreRankerModel:
    return PreRankerModel.open(folder, samples.meta.schema)


def inputs_of(samples: SampleSet, slate: int, n_history: int = 8) -> tuple[ViewerInputs, CandidateInputs]:
    end = int(samples.history_starts[slate + 1])
    tokens = slice(max(end - n_history, int(samples.history_starts[slate])), end)
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


def made(served: PreRankerModel, samples: SampleSet) -> MadeVectors:
    def tokens_of(post_ids: Int64Array) -> UInt16Array:
        return samples.text_tokens[samples.texts_of(post_ids)]

    return MadeVectors(served.tables, tokens_of)


def learned(model: PreRanker, samples: SampleSet, slate: int, n_history: int = 8) -> np.ndarray:
    batch = ranker_batch(samples, np.array([slate]), read_as(model.config), np.array([n_history]))
    with torch.no_grad():
        profile, history, mask, candidates = assembled(batch, model)
        return model.linked(model.logits(candidates, *model.encode(profile, history, mask)))[0].numpy()


@pytest.mark.parametrize("n_history", [8, 3, 0])
def test_it_predicts_what_the_trained_one_does(
    samples: SampleSet, model: PreRanker, served: PreRankerModel, n_history: int
) -> None:
    for slate in range(len(samples)):
        viewer, candidates = inputs_of(samples, slate, n_history)
        predictions = served.predict(viewer, candidates, made(served, samples))
        assert predictions.shape == (9, len(samples.meta.actions))
        assert np.abs(predictions - learned(model, samples, slate, n_history)).max() < 1e-5


def test_of_a_history_that_is_too_long_the_newest_posts_count(samples: SampleSet, folder: Path) -> None:
    served = PreRankerModel.open(folder, samples.meta.schema)
    longer = planted_samples(4, n_rows=9, n_history=20)
    viewer, candidates = inputs_of(longer, 1, 20)
    newest, _ = inputs_of(longer, 1, 8)
    vectors = made(served, longer)
    assert np.array_equal(served.predict(viewer, candidates, vectors), served.predict(newest, candidates, vectors))


def test_candidates_do_not_see_each_other(
    samples: SampleSet, served: PreRankerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, candidates = inputs_of(samples, 0)
    vectors = made(served, samples)
    whole = served.predict(viewer, candidates, vectors)
    order = np.random.default_rng(1).permutation(candidates.n)
    some = np.array([7, 2, 2])
    assert np.abs(served.predict(viewer, candidates.take(order), vectors) - whole[order]).max() < 1e-6
    assert np.abs(served.predict(viewer, candidates.take(some), vectors) - whole[some]).max() < 1e-6
    alone = [served.predict(viewer, candidates.take(np.array([row])), vectors)[0] for row in range(candidates.n)]
    assert np.abs(np.stack(alone) - whole).max() < 1e-6
    monkeypatch.setattr(pre_ranker_model, "N_AT_ONCE", 4)  # three runs in the place of one
    assert np.abs(served.predict(viewer, candidates, vectors) - whole).max() < 1e-6


def test_no_candidates_are_fine(samples: SampleSet, served: PreRankerModel) -> None:
    viewer, candidates = inputs_of(samples, 0)
    none = candidates.take(np.empty(0, dtype=np.intp))
    assert served.predict(viewer, none, made(served, samples)).shape == (0, len(samples.meta.actions))


def test_a_model_of_other_features_is_refused(folder: Path) -> None:
    with pytest.raises(SchemaError, match="other features"):
        PreRankerModel.open(folder, "another schema")


def test_a_folder_without_a_pre_ranker_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pre_ranker\.json"):
        PreRankerModel.open(tmp_path, "any")


class TestKeptVectors:
    """What is kept of posts is what would be made anew, through arrivals, edits, deletions and forgotten posts."""

    hasher = IdHasher()

    def agrees(self, tables: EmbeddingTables, kept: KeptVectors, texts: TextIndex, n: int) -> bool:
        ids = np.array([0, *(self.hasher.one(IdKind.POST, str(post)) for post in range(1, n))])
        out = np.full((n, tables.width + 3), 7.0, dtype=np.float32)
        expected = out.copy()
        kept.write(ids, out)
        MadeVectors(tables, lambda wanted: texts.content(wanted)[0]).write(ids, expected)
        assert (out[:, tables.width :] == 7.0).all()
        assert not out[0, : tables.width].any()
        return bool(np.abs(out - expected).max() < 1e-6)

    def test_they_follow_the_index(self, served: PreRankerModel) -> None:
        texts = TextIndex(ContentConfig(max_posts=90), self.hasher)
        kept = served.vectors_over(texts)
        events = [a_post_created(post, 1, text=f"cats and football {post}") for post in range(1, 60)]
        texts.apply(a_batch_of(events))
        assert self.agrees(served.tables, kept, texts, 150)
        before = kept.n_bytes
        changes = [a_post_edited(7, text="nothing of the kind"), a_post_deleted(9)]
        texts.apply(a_batch_of(changes, first_offset=len(events)))
        assert self.agrees(served.tables, kept, texts, 150)
        # More than there is room for: the oldest rows are taken by others.
        more = [a_post_created(post, 1, text=f"bread {post}") for post in range(60, 140)]
        texts.apply(a_batch_of(more, first_offset=100))
        assert self.agrees(served.tables, kept, texts, 150)
        assert before < kept.n_bytes == 90 * (served.tables.width * 4 + 8)
