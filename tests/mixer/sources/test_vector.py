"""Vectors: the nearest posts of those that the viewer may be shown, and why one is not among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from millrace.base.ids import Int64Array
from millrace.events.envelope import AnyEvent
from millrace.features.columns import POST_ID, RETRIEVAL_SCORE
from millrace.features.encoding.encoders import Encoders
from millrace.features.encoding.viewers import ViewerInputs
from millrace.features.query_fields import (
    BLOCKED,
    BLOCKED_BY,
    FOLLOWING,
    LANGUAGES,
    LIKED_POSTS,
    MUTED,
    SEEN,
    SERVED,
    SHOWS_ALL_LANGUAGES,
)
from millrace.inference.tables import Float32Array
from millrace.inference.vector_index import Eligibility
from millrace.inference.vector_index_exact import ExactIndex
from millrace.mixer.reasons import reason
from millrace.mixer.sources.vector import HAS_FOLLOWED, IS_ON, MAX_POSTS, VectorSource
from millrace.pipeline.query import Query
from millrace.testing.builders import NOW_MS, a_post_annotated, a_post_created
from millrace.testing.pipeline_builders import a_query
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]
HOUR_MS = 3_600_000


class TextVectors:
    """A retriever without a model: posts by the vectors of their texts, everybody like the first post."""

    def __init__(self, world: FeedWorld) -> None:
        posts = world.state.posts
        found = posts.gather(posts.live())
        vectors, self._has = world.state.texts.vectors(found.post_id)
        self.index = ExactIndex(64, "texts")
        self.index.add(found.post_id, vectors, found.created_ms, found.author_id, found.language)
        self._query = vectors[np.flatnonzero(found.post_id == world.post_id("mill"))[0]]
        self._by_id = dict(zip(found.post_id.tolist(), vectors, strict=True))

    def search(self, viewer: ViewerInputs, k: int, eligibility: Eligibility) -> tuple[Int64Array, Float32Array]:
        """Return the nearest."""
        return self.index.search(self._query, k, eligibility)

    def cosine(self, viewer: ViewerInputs, post_id: int) -> float | None:
        """Return the cosine."""
        vector = self._by_id.get(post_id)
        return None if vector is None else float(vector @ self._query)


def a_post(post_id: str, text: str, author: int, hours_ago: float = 1) -> AnyEvent:
    return a_post_created(post_id, author, text=text, at_ms=NOW_MS - int(hours_ago * HOUR_MS))


POSTS = [
    a_post("mill", "the old water mill on the stream", 30),
    a_post("wheel", "the wheel of the old mill on the stream", 31),
    a_post("vote", "election results from the capital", 32),
]


def the_source(world: FeedWorld, retriever: TextVectors | None = None) -> VectorSource:
    viewers = Encoders.of(world.state, world.state.texts, world.state.profile_texts).viewers
    serving = retriever or TextVectors(world)
    return VectorSource(lambda _query: serving, viewers, world.state.posts)


def found(world: FeedWorld, query: Query) -> list[int]:
    return the_source(world).retrieve(query)[POST_ID].tolist()  # type: ignore[no-any-return]


def ids(world: FeedWorld, *posts: str) -> list[int]:
    return [world.post_id(post) for post in posts]


def user(world: FeedWorld, number: int) -> int:
    return int(world.state.hasher.users([str(number)])[0])


def test_the_nearest_come_first_and_no_more_than_asked_for(a_world: World) -> None:
    world = a_world(POSTS)
    batch = the_source(world).retrieve(a_query())
    assert batch[POST_ID].tolist() == ids(world, "mill", "wheel", "vote")
    assert batch[RETRIEVAL_SCORE].dtype == np.float32
    assert (np.diff(batch[RETRIEVAL_SCORE]) < 0).all()
    assert found(world, a_query(params={MAX_POSTS: 2})) == ids(world, "mill", "wheel")


def test_what_may_not_be_shown_takes_no_place(a_world: World) -> None:
    world = a_world([*POSTS, a_post("old", "the old water mill on the stream", 33, hours_ago=60)])
    only = {MAX_POSTS: 1}
    assert found(world, a_query(params=only)) == ids(world, "mill")
    for field in (SEEN, SERVED, LIKED_POSTS):
        assert found(world, a_query({field: ids(world, "mill")}, params=only)) == ids(world, "wheel")
    for field in (BLOCKED, BLOCKED_BY, MUTED, FOLLOWING):
        assert found(world, a_query({field: [user(world, 30)]}, params=only)) == ids(world, "wheel")
    assert found(world, a_query(viewer_id=user(world, 30), params=only)) == ids(world, "wheel")
    followed = a_query({FOLLOWING: [user(world, 30)]}, params={**only, HAS_FOLLOWED: True})
    assert found(world, followed) == ids(world, "mill")


def test_languages_are_asked_before_the_best_are_taken(a_world: World) -> None:
    world = a_world([*POSTS, a_post_annotated("mill", language="de"), a_post_annotated("wheel", language="en")])
    english = world.state.codes.languages.code("en")
    fields: dict[Any, Any] = {LANGUAGES: [english]}
    assert found(world, a_query(fields, params={MAX_POSTS: 1})) == ids(world, "wheel")
    assert len(found(world, a_query({**fields, SHOWS_ALL_LANGUAGES: True}))) == 3


def test_without_a_model_or_where_it_is_switched_off_it_takes_no_part(a_world: World) -> None:
    world = a_world(POSTS)
    source = the_source(world)
    assert source.is_enabled(a_query())
    assert not source.is_enabled(a_query(params={IS_ON: False}))
    nothing = VectorSource(lambda _query: None, source._viewers, world.state.posts)
    assert not nothing.is_enabled(a_query())
    assert nothing.retrieve(a_query()).n == 0


def test_it_says_how_near_a_post_would_have_had_to_be(a_world: World) -> None:
    world = a_world([*POSTS, a_post("old", "a mill", 33, hours_ago=60)])
    source, vote = the_source(world), world.post_id("vote")
    said = source.explain(a_query(params={MAX_POSTS: 2}), vote)
    assert said.startswith("its cosine with the viewer is ")
    assert "the last of the 2 nearest has" in said
    assert "hours old" in source.explain(a_query(), world.post_id("old"))
    assert source.explain(a_query({SEEN: [vote]}), vote) == "you have seen it"
    assert source.explain(a_query({MUTED: [user(world, 32)]}), vote).startswith("by the viewer, or whom")
    empty = VectorSource(lambda _query: None, source._viewers, world.state.posts)
    assert empty.explain(a_query(), vote).startswith("it has no vector")


def test_the_reader_is_told_that_it_fits() -> None:
    said = reason(("vector", "popular"), kind="original", author="A", is_in_network=False, proofs=(), n_proofs=0)
    assert said == "Fits what you liked and read"
