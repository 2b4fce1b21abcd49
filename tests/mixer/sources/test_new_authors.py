"""New authors: whose posts are found although nobody follows them, and why others' are not."""

from collections.abc import Callable
from typing import Any

from millrace.events.envelope import AnyEvent
from millrace.features.columns import POST_ID
from millrace.features.query_fields import LANGUAGES, SEEN
from millrace.mixer.sources.new_authors import (
    MAX_AUTHOR_AGE_D,
    MAX_FOLLOWERS,
    MAX_PER_AUTHOR,
    MAX_POOL,
    MAX_POSTS,
    NewAuthorsSource,
)
from millrace.pipeline.query import Query
from millrace.testing.builders import NOW_MS, a_follow, a_post_annotated, a_post_created, a_profile_updated
from millrace.testing.pipeline_builders import a_query
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def a_post(post_id: int, author: str, hours_ago: float = 1, **fields: Any) -> AnyEvent:
    return a_post_created(post_id, author, at_ms=NOW_MS - int(hours_ago * HOUR_MS), **fields)


def since(user: str, days: float) -> AnyEvent:
    return a_profile_updated(user, at_ms=NOW_MS - int(days * DAY_MS))


def the_source(world: FeedWorld) -> NewAuthorsSource:
    state = world.state
    return NewAuthorsSource(state.texts, state.posts, state.profiles, state.follow_graph)


def found(world: FeedWorld, query: Query) -> list[int]:
    names = {world.post_id(i): i for i in range(100)}
    return [names[post_id] for post_id in the_source(world).retrieve(query)[POST_ID].tolist()]


def test_the_newest_of_new_authors_come_first_and_at_most_two_of_each(a_world: World) -> None:
    world = a_world(
        [
            *(since("new", 6), since("newer", 1), since("old", 8)),
            *(a_post(i, "new") for i in range(4)),
            *(a_post(4, "newer"), a_post(5, "old")),
        ]
    )
    assert found(world, a_query()) == [4, 3, 2]
    assert found(world, a_query(params={MAX_PER_AUTHOR: 3})) == [4, 3, 2, 1]
    assert found(world, a_query(params={MAX_AUTHOR_AGE_D: 9.0})) == [5, 4, 3, 2]
    assert found(world, a_query(params={MAX_POSTS: 1})) == [4]
    assert found(world, a_query(params={MAX_POOL: 2})) == [4]


def test_authors_with_few_followers_count_where_that_is_switched_on(a_world: World) -> None:
    follows = [a_follow(f"fan{i}", "liked") for i in range(3)]
    world = a_world([since("lone", 100), since("liked", 100), *follows, a_post(1, "lone"), a_post(2, "liked")])
    assert found(world, a_query()) == []
    assert found(world, a_query(params={MAX_FOLLOWERS: 2})) == [1]
    assert found(world, a_query(params={MAX_FOLLOWERS: 3})) == [2, 1]


def test_what_the_viewer_has_had_wrote_or_cannot_get_is_left_out(a_world: World) -> None:
    world = a_world(
        [
            a_post(1, "20"),
            a_post(2, "a"),
            a_post(3, "b", hours_ago=60),
            a_post(4, "c", kind="quote"),
            a_post(5, "d"),
            a_post(6, "e"),
            a_post_annotated(5, language="en"),
            a_post_annotated(6, language="de"),
        ]
    )
    me = int(world.state.hasher.users(["20"])[0])
    english = world.state.codes.languages.code("en")
    query = a_query({SEEN: [world.post_id(2)], LANGUAGES: [english]}, viewer_id=me)
    assert found(world, query) == [5]


def test_it_says_why_a_post_is_not_there(a_world: World) -> None:
    world = a_world([since("old", 30), a_post(1, "old"), *(a_post(i, "new") for i in range(2, 5)), a_follow(9, "old")])
    explain = the_source(world).explain
    assert explain(a_query(), world.post_id(1)) == "its author is not new: first seen 30 days ago, 1 followers"
    assert explain(a_query(), world.post_id(2)).startswith("its author is new, but newer posts took the places")
    assert explain(a_query({SEEN: [world.post_id(4)]}), world.post_id(4)) == "the viewer has had it"
    assert explain(a_query(), 12345) == "the post store does not have it"
