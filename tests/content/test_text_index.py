"""`TextIndex` against a naive model and against NumPy, its bytes under any cut, and rule by rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher, IdKind
from millrace.content.config import ContentConfig
from millrace.content.text_index import TextIndex
from millrace.content.vectors import N_DIMS, quantised, text_vectors
from millrace.events.content_events import Media, PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_user_erased,
)
from millrace.testing.strategies import HOUR_MS, POSTS, cuts, post_ids, times_ms, user_ids

HASHER = IdHasher()
TEXTS = ("", "an old mill", "an old mill on a stream", "election results", "東京タワー", "🔥")
AXIS = tuple(1.0 if dim == 5 else 0.0 for dim in range(N_DIMS))


def post(text: str | int) -> int:
    return HASHER.one(IdKind.POST, str(text))


def posts(*texts: str | int) -> np.ndarray:
    return np.array([post(text) for text in texts], dtype=np.int64)


def user(text: str | int) -> int:
    return HASHER.one(IdKind.USER, str(text))


def an_index(*events: AnyEvent, max_posts: int = 1_000) -> TextIndex:
    index = TextIndex(ContentConfig(max_posts=max_posts), HASHER)
    index.apply(a_batch_of(events))
    return index


def unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector.astype(np.float64))
    return (vector / length).astype(np.float32) if length else np.zeros(N_DIMS, dtype=np.float32)


events = st.one_of(
    *[
        st.builds(
            a_post_created,
            post_ids,
            user_ids,
            kind=st.sampled_from(("original", "original", "reply", "repost", "quote")),
            text=st.sampled_from(TEXTS),
            at_ms=times_ms,
        )
    ]
    * 5,
    st.builds(a_post_edited, post_ids, text=st.none() | st.sampled_from(TEXTS), at_ms=times_ms),
    st.builds(
        a_post_annotated,
        post_ids,
        vector=st.sampled_from((None, AXIS, AXIS[:-1], (0.0,) * N_DIMS, tuple(-2 * x for x in AXIS))),
        at_ms=times_ms,
    ),
    st.builds(a_post_deleted, post_ids, at_ms=times_ms),
    st.builds(a_user_erased, user_ids),
)
histories = st.lists(events, max_size=60)


class Model:
    """A list of rows in order of arrival; erased ones keep their place and are None."""

    def __init__(self, max_posts: int) -> None:
        self.max_posts = max_posts
        self.rows: list[dict | None] = []

    def find(self, post_id: str) -> dict | None:
        return next((row for row in self.rows if row and row["post"] == post_id), None)

    def apply(self, event: AnyEvent) -> None:
        match event.payload:
            case PostCreated(post_id=post_id, kind=kind) as payload:
                if kind != "repost" and self.find(post_id) is None:
                    row = {"post": post_id, "author": payload.author_id, "at_ms": event.event_time_ms, "kind": kind}
                    vector = text_vectors([payload.text])[0]
                    self.rows = [*self.rows, row | {"alive": True, "given": False, "vector": vector}][-self.max_posts :]
            case PostEdited(post_id=post_id, text=str() as text):
                row = self.find(post_id)
                if row and row["alive"] and not row["given"]:
                    row["vector"] = text_vectors([text])[0]
            case PostAnnotated(post_id=post_id, vector=tuple() as vector) if len(vector) == N_DIMS:
                row = self.find(post_id)
                if row and row["alive"]:
                    row["vector"] = quantised(np.array(vector))[0]
                    row["given"] = True
            case PostDeleted(post_id=post_id):
                row = self.find(post_id)
                if row:
                    row |= {"alive": False, "vector": np.zeros(N_DIMS, dtype=np.int8)}
            case PostEdited() | PostAnnotated():
                pass
            case erased:
                self.rows = [None if row and row["author"] == erased.user_id else row for row in self.rows]


@settings(max_examples=80, deadline=None)
@given(histories, st.sampled_from((1, 3, 5, 100)))
def test_it_holds_what_the_naive_model_holds(history: list[AnyEvent], max_posts: int) -> None:
    index, model = an_index(*history, max_posts=max_posts), Model(max_posts)
    for event in history:
        model.apply(event)
    vectors, has = index.vectors(posts(*POSTS))
    for name, vector, has_one in zip(POSTS, vectors, has, strict=True):
        row = model.find(name)
        wanted = row["vector"] if row else np.zeros(N_DIMS, dtype=np.int8)
        assert np.allclose(vector, unit(wanted), atol=1e-6)
        assert has_one == bool(wanted.any())
    rows = [row for row in reversed(model.rows) if row and row["alive"] and row["kind"] == "original"]
    for n in (0, 2, 50):
        found = index.newest(n)
        assert found[0].tolist() == [post(row["post"]) for row in rows[:n]]
        assert found[1].tolist() == [user(row["author"]) for row in rows[:n]]
        assert found[2].tolist() == [row["at_ms"] for row in rows[:n]]
    eligible = [row for row in reversed(model.rows) if row and row["kind"] != "reply" and row["vector"].any()]
    assert set(similar(index, AXIS, max_age_ms=10**12)) == {post(row["post"]) for row in eligible}


def similar(index: TextIndex, *interests: Sequence[float], **more: object) -> list[int]:
    wanted = np.array(interests, dtype=np.float32)
    given = {"now_ms": NOW_MS + 24 * HOUR_MS, "max_age_ms": 48 * HOUR_MS, "max_posts": 100} | more
    return index.most_similar(wanted, **given)[0].tolist()  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(histories, st.sampled_from((3, 100)), st.data())
def test_cuts_and_restarts_leave_no_trace_in_the_arrays(
    history: list[AnyEvent], max_posts: int, data: st.DataObject
) -> None:
    whole = an_index(*history, max_posts=max_posts).arrays()
    index, start = an_index(max_posts=max_posts), 0
    ends = data.draw(cuts(len(history)))
    restart = data.draw(st.sampled_from(ends))
    for end in ends:
        index.apply(a_batch_of(history[start:end], first_offset=start))
        index.tick(NOW_MS)
        start = end
        if end == restart:
            saved = {name: array.copy() for name, array in index.arrays().items()}
            index = an_index(max_posts=max_posts)
            index.load(saved)
    parts = index.arrays()
    assert whole.keys() == parts.keys()
    assert all(whole[name].tobytes() == parts[name].tobytes() for name in whole)


@pytest.mark.parametrize("max_posts", [100, 128, 700])
def test_a_long_life_grows_to_its_bound_and_is_the_same_in_any_steps(max_posts: int) -> None:
    history = [a_post_created(i, i % 7, text=f"text number {i}") for i in range(1_000)]
    whole, parts = an_index(*history, max_posts=max_posts), an_index(max_posts=max_posts)
    for event in history:
        parts.apply(a_batch_of([event]))
    assert all(
        a.tobytes() == b.tobytes() for a, b in zip(whole.arrays().values(), parts.arrays().values(), strict=True)
    )
    assert whole.n_posts == max_posts
    assert whole.n_bytes <= 300 * max_posts + 128
    ids, authors, _ = whole.newest(2_000)
    assert ids.tolist() == [post(i) for i in range(999, 999 - max_posts, -1)]
    assert authors[0] == user(999 % 7)
    assert whole.vectors(posts(999, 1_000 - max_posts, 999 - max_posts))[1].tolist() == [True, True, False]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from((0, 5, 300, 700)),
    st.integers(0, 4),
    st.sampled_from((0, 1, 20, 1_000)),
    st.sampled_from((0, 1, 250, 260, 10_000)),
    st.sampled_from((-1.0, 0.0, 0.2, 1.0)),
)
def test_the_scan_finds_what_numpy_finds(
    seed: int, n: int, k: int, max_posts: int, n_scanned: int, min_similarity: float
) -> None:
    rng = np.random.default_rng(seed)
    kinds = ("original", "quote", "reply")
    words = rng.integers(0, 12, (n, 3))  # few words: scores tie, and ids decide
    index = an_index(
        *(
            a_post_created(
                i, i % 9, kind=kinds[rng.integers(3)], text=f"w{a} w{b} w{c}", at_ms=NOW_MS - int(rng.integers(100))
            )
            for i, (a, b, c) in enumerate(words)
        ),
        *(a_post_deleted(int(i)) for i in rng.integers(0, n + 1, n // 10)),
        max_posts=600,
    )
    interests = rng.standard_normal((k, N_DIMS))
    if k > 1:
        interests[1] = 0.0
    given = {
        "now_ms": NOW_MS,
        "max_age_ms": 80,
        "max_posts": max_posts,
        "n_scanned": n_scanned,
        "min_similarity": min_similarity,
        "exclude_ids": posts(*rng.integers(0, n + 1, n // 4).tolist()),
        "exclude_author_id": user(3),
    }
    ids, scores = index.most_similar(interests, **given)  # type: ignore[arg-type]
    wanted_ids, wanted_scores = index.most_similar_reference(interests, **given)  # type: ignore[arg-type]
    assert ids.tolist() == wanted_ids.tolist()
    assert scores.tolist() == wanted_scores.tolist()


def test_the_most_alike_come_first_and_are_near_the_true_cosine() -> None:
    index = an_index(
        a_post_created("far", 1, text="election results"),
        a_post_created("near", 2, text="an old mill on a stream"),
        a_post_created("same", 3, text="an old mill"),
    )
    (interest,), _ = index.vectors(posts("same"))
    ids, cosines = index.most_similar(interest[None], now_ms=NOW_MS, max_age_ms=1, max_posts=2)
    assert ids.tolist() == [post("same"), post("near")]
    true = index.vectors(ids)[0] @ interest
    assert np.allclose(cosines, true, atol=0.01)


def test_several_interests_are_each_served() -> None:
    index = an_index(a_post_created("a", 1, text="an old mill"), a_post_created("b", 1, text="election results"))
    interests, _ = index.vectors(posts("a", "b"))
    ids, cosines = index.most_similar(interests, now_ms=NOW_MS, max_age_ms=1, max_posts=5)
    assert set(ids.tolist()) == {post("a"), post("b")}
    assert (cosines > 0.95).all()


def test_an_operators_vector_takes_the_place_of_ours_and_edits_leave_it() -> None:
    index = an_index(
        a_post_created("p", 1, text="an old mill"), a_post_annotated("p", vector=AXIS), a_post_edited("p", text="new")
    )
    assert index.vectors(posts("p"))[0][0].tolist() == list(AXIS)


def test_an_erased_author_leaves_nothing_behind() -> None:
    index = an_index(
        a_post_created("kept", "b", text="an old mill"),
        *(a_post_created(f"gone{i}", "a", text="secret") for i in range(3)),
        a_post_deleted("gone1"),
        a_user_erased("a"),
    )
    assert index.newest(10)[0].tolist() == [post("kept")]
    for array in index.arrays().values():
        values = array.reshape(-1).tolist()
        assert user("a") not in values
        assert post("gone1") not in values
    assert int((index.arrays()["vectors"] != 0).any(axis=1).sum()) == 1
    index.apply(a_batch_of([a_post_created("gone0", "a", text="back again")]))
    assert index.newest(1)[0].tolist() == [post("gone0")]


def test_traits_are_those_of_the_content_and_nothing_for_posts_not_here() -> None:
    index = an_index(
        a_post_created(1, 10, text="a mill", media=(Media(kind="image"),)), a_post_created(2, 10, text="b")
    )
    ids = np.append(posts(2, 1, 3), 0)
    assert index.traits(ids).tolist() == [0, 1, 0, 0]
    tokens, traits = index.content(ids)
    assert traits.tolist() == [0, 1, 0, 0]
    assert tokens.any(axis=1).tolist() == [True, True, False, False]
    assert index.whole_vectors(ids).any(axis=1).tolist() == [True, True, False, False]
