"""Similar content: what is like what the viewer liked, and why something is not."""

from collections.abc import Callable
from typing import Any

import numpy as np

from millrace.events.envelope import AnyEvent
from millrace.features.columns import POST_ID, RETRIEVAL_SCORE
from millrace.features.query_fields import LANGUAGES, LIKED_POSTS, SEEN, SERVED
from millrace.mixer.sources.similar_content import MAX_POSTS, MIN_COSINE, N_INTERESTS, SimilarContentSource
from millrace.pipeline.query import Query
from millrace.testing.builders import NOW_MS, a_post_annotated, a_post_created, an_engagement
from millrace.testing.pipeline_builders import a_query
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]
HOUR_MS = 3_600_000


def a_post(post_id: str, text: str, author: int = 30, hours_ago: float = 1, **fields: Any) -> AnyEvent:
    return a_post_created(post_id, author, text=text, at_ms=NOW_MS - int(hours_ago * HOUR_MS), **fields)


MILLS = [
    a_post("liked", "the old water mill on the stream"),
    a_post("mill", "a water mill, old, on a stream"),
    a_post("wheel", "the wheel of the old mill on the stream", 31),
    a_post("vote", "election results from the capital", 32),
]


def the_source(world: FeedWorld) -> SimilarContentSource:
    return SimilarContentSource(world.state.texts, world.state.posts)


def liking(world: FeedWorld, *posts: str, **more: Any) -> Query:
    fields = more.pop("fields", {})
    return a_query({LIKED_POSTS: [world.post_id(post) for post in posts], **fields}, **more)


def found(world: FeedWorld, query: Query) -> list[int]:
    return the_source(world).retrieve(query)[POST_ID].tolist()  # type: ignore[no-any-return]


def test_posts_like_the_liked_ones_are_found_the_most_alike_first(a_world: World) -> None:
    world = a_world(MILLS)
    batch = the_source(world).retrieve(liking(world, "liked"))
    assert set(batch[POST_ID].tolist()) == {world.post_id("mill"), world.post_id("wheel")}
    assert batch[RETRIEVAL_SCORE].dtype == np.float32
    assert (np.diff(batch[RETRIEVAL_SCORE]) <= 0).all()
    assert the_source(world).retrieve(liking(world, "liked", params={MAX_POSTS: 1})).n == 1


def test_those_who_liked_nothing_with_a_text_find_nothing(a_world: World) -> None:
    world = a_world([*MILLS, a_post("photo", "")])
    assert found(world, a_query()) == []
    assert found(world, liking(world, "photo", "unknown")) == []
    query = liking(world, "photo")
    assert the_source(world).explain(query, world.post_id("mill")) == "the viewer liked no post lately that has a text"


def test_every_interest_is_served(a_world: World) -> None:
    world = a_world([*MILLS, a_post("votes", "results of the election in the capital")])
    query = liking(world, "liked", "vote")
    assert {world.post_id("mill"), world.post_id("votes")} <= set(found(world, query))
    interests = the_source(world)._interests(query)
    assert interests.shape == (2, 64)
    one = liking(world, "liked", "vote", params={N_INTERESTS: 1})
    assert the_source(world)._interests(one).shape == (1, 64)


def test_newer_likes_weigh_more(a_world: World) -> None:
    world = a_world(MILLS)
    vectors, _ = world.state.texts.vectors(np.array([world.post_id("liked"), world.post_id("vote")]))
    for first, second in (("liked", "vote"), ("vote", "liked")):
        (interest,) = the_source(world)._interests(liking(world, first, second, params={N_INTERESTS: 1}))
        likeness = dict(zip(("liked", "vote"), (vectors @ interest).tolist(), strict=True))
        assert likeness[first] > likeness[second]


def test_what_the_viewer_has_had_wrote_or_cannot_get_is_left_out(a_world: World) -> None:
    text = "the old water mill on the stream"
    world = a_world(
        [
            *MILLS,
            a_post("own", text, 20),
            a_post("old", text, 33, hours_ago=60),
            a_post("reply", text, 34, kind="reply"),
            a_post("seen", text, 35),
            a_post("served", text, 36),
        ]
    )
    me = world.state.hasher.users(["20"])[0]
    had = {SEEN: [world.post_id("seen")], SERVED: [world.post_id("served")]}
    query = liking(world, "liked", viewer_id=int(me), fields=had)
    assert set(found(world, query)) == {world.post_id("mill"), world.post_id("wheel")}
    explain = the_source(world).explain
    for post in ("seen", "served", "liked"):
        assert explain(query, world.post_id(post)) == "the viewer has had it"
    for post in ("own", "old", "reply"):
        assert explain(query, world.post_id(post)) == "too old, by the viewer, a reply, or deleted"


def test_languages_that_the_viewer_does_not_understand_are_left_out(a_world: World) -> None:
    world = a_world(
        [*MILLS, a_post_annotated("mill", language="en"), a_post_annotated("wheel", language="de")],
    )
    english = world.state.codes.languages.code("en")
    query = liking(world, "liked", fields={LANGUAGES: [english]})
    assert found(world, query) == [world.post_id("mill")]
    said = the_source(world).explain(query, world.post_id("wheel"))
    assert said == "in a language that the viewer does not understand"


def test_it_says_how_alike_a_post_would_have_had_to_be(a_world: World) -> None:
    world = a_world(MILLS)
    source, wheel = the_source(world), world.post_id("wheel")
    said = source.explain(liking(world, "liked", params={MIN_COSINE: 0.99}), wheel)
    assert said.endswith("to what the viewer liked; the least is 0.99")
    query = liking(world, "liked", params={MAX_POSTS: 1})
    (first,) = found(world, query)
    other = ({world.post_id("mill"), wheel} - {first}).pop()
    assert "the last of the 1 that it took has" in source.explain(query, other)
    assert source.explain(query, 12345) == "its text is not known, or it is not among the newest posts"


def test_a_like_brings_alike_posts_to_the_page(a_world: World) -> None:
    world = a_world([*MILLS, an_engagement(20, "liked", "like", at_ms=NOW_MS - HOUR_MS)])
    page = world.page()
    post = next(post for post in page.posts if post.post_id == "mill")
    assert "similar_content" in post.sources
    assert post.reason == "Similar to posts you liked"
