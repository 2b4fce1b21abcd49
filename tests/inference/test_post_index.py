"""`PostIndex`: what is written is found at once, what is taken back by nobody, and a new version fills its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

from millrace.base.ids import IdKind
from millrace.events.envelope import AnyEvent
from millrace.features.encoding.encoders import Encoders
from millrace.inference.post_index import PostIndex, PostIndexes
from millrace.inference.retrieval_model import RetrievalModel
from millrace.inference.vector_index import Eligibility
from millrace.mixer.feed_state import FeedState
from millrace.stores.config import StoresConfig
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_user_erased,
)
from millrace.testing.small_towers import export_small_towers

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RetrievalModel:
    folder = tmp_path_factory.mktemp("towers")
    return RetrievalModel.open(folder, export_small_towers(folder).schema, "v1")


class Process:
    """Stores, and the index that follows them."""

    def __init__(self, model: RetrievalModel) -> None:
        self.state = FeedState(StoresConfig())
        self.indexes = PostIndexes(self.state, self.state.texts)
        self.index = self.indexes.open(model)
        viewers = Encoders.of(self.state, self.state.texts, self.state.profile_texts).viewers
        self.nobody = viewers.encode(1)

    def hear(self, *events: AnyEvent) -> None:
        batch = a_batch_of(list(events))
        for fold in self.state.folds():
            fold.apply(batch)
        self.indexes.hear(batch)

    def found(self, eligibility: Eligibility | None = None) -> set[int]:
        ids, _ = self.index.search(self.nobody, 100, eligibility or Eligibility())
        return set(ids.tolist())

    def post(self, text: str | int) -> int:
        return self.state.hasher.one(IdKind.POST, str(text))

    def posts(self, *texts: str | int) -> set[int]:
        return {self.post(text) for text in texts}


def test_a_post_is_found_with_the_batch_that_wrote_it_and_no_more_once_it_is_deleted(model: RetrievalModel) -> None:
    process = Process(model)
    process.hear(a_post_created(1, 30, text="a water mill"), a_post_created(2, 31, text="an election"))
    assert process.found() == process.posts(1, 2)
    process.hear(a_post_deleted(1))
    assert process.found() == process.posts(2)
    process.hear(a_user_erased(31))
    assert process.found() == set()
    assert process.index.n == 0


def test_only_originals_and_quotes_are_found(model: RetrievalModel) -> None:
    process = Process(model)
    process.hear(
        a_post_created(1, 30),
        a_post_created(2, 31, kind="quote", parent_id=1),
        a_post_created(3, 31, kind="reply", parent_id=1),
        a_post_created(4, 31, kind="repost", parent_id=1),
    )
    assert process.found() == process.posts(1, 2)


def test_an_edited_post_is_found_by_its_new_text_alone(model: RetrievalModel) -> None:
    process, fresh = Process(model), Process(model)
    process.hear(a_post_created(1, 30, text="a water mill"))
    before = process.index.search(process.nobody, 1)[1]
    process.hear(a_post_edited(1, text="results of the election"))
    fresh.hear(a_post_created(1, 30, text="results of the election"))
    after = process.index.search(process.nobody, 1)[1]
    assert after == fresh.index.search(fresh.nobody, 1)[1]
    assert after != before
    assert process.index.cosine(process.nobody, process.post(1)) == pytest.approx(float(after[0]), abs=1e-6)
    assert process.index.cosine(process.nobody, 12345) is None


def test_a_vector_that_is_annotated_later_takes_the_place_of_the_made_one(model: RetrievalModel) -> None:
    process, fresh = Process(model), Process(model)
    given = tuple(1.0 if k == 5 else 0.0 for k in range(64))
    process.hear(a_post_created(1, 30, text="a water mill"))
    before = process.index.search(process.nobody, 1)[1]
    process.hear(a_post_annotated(1, vector=given))
    fresh.hear(a_post_created(1, 30, text="a water mill"), a_post_annotated(1, vector=given))
    after = process.index.search(process.nobody, 1)[1]
    assert after == fresh.index.search(fresh.nobody, 1)[1]
    assert after != before


def test_a_language_that_is_found_out_later_counts(model: RetrievalModel) -> None:
    process = Process(model)
    process.hear(a_post_created(1, 30), a_post_annotated(1, language="de"))
    process.hear(a_post_created(2, 30))
    process.hear(a_post_annotated(2, language="en"))
    codes = process.state.codes.languages
    german = Eligibility(languages=np.array([codes.code("de")], dtype=np.int32))
    assert process.found(german) == process.posts(1)


def test_what_the_post_store_lets_go_of_leaves(model: RetrievalModel) -> None:
    process = Process(model)
    process.hear(a_post_created(1, 30, at_ms=NOW_MS), a_post_created(2, 30, at_ms=NOW_MS + 90 * HOUR_MS))
    process.state.posts.tick(NOW_MS + 90 * HOUR_MS)
    for _ in range(100):  # the store trims a share of its posts a tick
        process.state.posts.tick(NOW_MS + 91 * HOUR_MS)
    assert process.state.posts.find(np.array([process.post(1)])).tolist() == [-1]
    process.index.follow()
    assert process.found() == process.posts(2)


def test_a_first_filling_goes_step_by_step_the_newest_first(model: RetrievalModel) -> None:
    process = Process(model)
    process.hear(*[a_post_created(post, 30 + post) for post in range(10)])
    index = PostIndex(model, process.state, process.state.texts)
    was_filled = [index.is_filled]
    assert index.follow(4) == 6
    ids, _ = index.search(process.nobody, 100)
    assert set(ids.tolist()) == process.posts(6, 7, 8, 9)
    was_filled.append(index.is_filled)
    process.hear(a_post_deleted(9))
    assert index.follow(0) == 6
    assert index.n == 3
    index.fill()
    assert [*was_filled, index.is_filled] == [False, False, True]
    assert index.n == 9


def test_each_version_has_an_index_of_its_own(model: RetrievalModel, tmp_path: Path) -> None:
    process = Process(model)
    process.hear(a_post_created(1, 30, text="a water mill"))
    schema = export_small_towers(tmp_path, seed=2).schema
    other = process.indexes.open(RetrievalModel.open(tmp_path, schema, "v2"))
    assert other is not process.index
    assert process.indexes.open(model) is process.index
    assert not other.is_filled
    assert process.indexes.advance()
    assert other.n == process.index.n == 1
    assert other.search(process.nobody, 1)[1] != process.index.search(process.nobody, 1)[1]
    process.indexes.drop("v1")
    process.hear(a_post_created(2, 30))
    assert (process.index.n, other.n) == (1, 2)


posts = st.integers(1, 6)
changes = st.one_of(
    st.builds(a_post_created, posts, st.integers(30, 32), text=st.sampled_from(["", "a mill", "an election"])),
    st.builds(a_post_edited, posts, text=st.sampled_from(["", "a stream", "a vote"])),
    st.builds(a_post_deleted, posts),
    st.builds(lambda post, name: a_post_annotated(post, language=name), posts, st.sampled_from(["en", "de"])),
    st.builds(a_user_erased, st.integers(30, 32)),
)


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(changes, max_size=5), max_size=6))
def test_following_change_by_change_ends_where_a_fresh_index_does(
    model: RetrievalModel, batches: Sequence[Sequence[AnyEvent]]
) -> None:
    process = Process(model)
    for batch in batches:
        process.hear(*batch)
    fresh = PostIndex(model, process.state, process.state.texts)
    fresh.fill()
    followed, anew = process.index.search(process.nobody, 100), fresh.search(process.nobody, 100)
    assert followed[0].tolist() == anew[0].tolist()
    assert np.abs(followed[1] - anew[1]).max(initial=0.0) < 1e-6
