"""What counts as liked, in which order, and what that is about."""

from collections.abc import Callable
from typing import Any

import pytest

from millrace.base.ids import IdKind
from millrace.events.envelope import AnyEvent
from millrace.features.query_fields import LIKED_POSTS, LIKED_TOPICS
from millrace.mixer.query_hydrators.likes import MAX_POSTS, LikesQueryHydrator
from millrace.testing.builders import (
    NOW_MS,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_profile_updated,
    an_engagement,
    an_impression,
)
from millrace.testing.pipeline_builders import a_query
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]


def hydrated(world: FeedWorld, **params: Any) -> tuple[list[str], list[str]]:
    """Return the liked posts and topics by name."""
    (stage,) = (stage for stage in world.service.pipeline.stages.query_hydrators if stage.name == "likes")
    viewer_id = world.state.hasher.one(IdKind.USER, "20")
    found: Any = stage.hydrate(a_query(viewer_id=viewer_id, **params))
    names = {world.post_id(post): str(post) for post in range(1, 40)}
    topics = world.state.codes.topics
    return [names[key] for key in found[LIKED_POSTS].tolist()], [topics.name(code) for code in found[LIKED_TOPICS]]


def acts(*what: tuple[int, str], is_undo: bool = False) -> list[AnyEvent]:
    return [an_engagement(20, post, action, is_undo=is_undo, at_ms=NOW_MS + n) for n, (post, action) in enumerate(what)]


def test_what_was_acted_on_comes_first_newest_first_each_post_once(a_world: World) -> None:
    world = a_world(
        [
            *acts((1, "like"), (2, "reply"), (1, "repost"), (3, "bookmark"), (4, "click")),
            an_impression(20, 5, dwell_ms=7_000, at_ms=NOW_MS + 10),  # a valid view
            an_impression(20, 6, dwell_ms=1_000, at_ms=NOW_MS + 11),  # not dwelled
            an_impression(20, 7, dwell_ms=7_000, at_ms=NOW_MS + 12),
        ]
    )
    assert hydrated(world)[0] == ["3", "1", "2", "7", "5"]
    assert hydrated(world, params={MAX_POSTS: 4})[0] == ["3", "1", "2", "7"]
    assert hydrated(world, params={MAX_POSTS: 2})[0] == ["3", "1"]
    assert hydrated(world, params={MAX_POSTS: 0})[0] == []


def test_what_was_taken_back_or_refused_is_not_liked(a_world: World) -> None:
    world = a_world(acts((1, "like"), (2, "like"), (3, "like"), (3, "report"), (4, "not_interested"), (5, "share")))
    assert hydrated(world)[0] == ["5", "2", "1"]
    world.hear(acts((1, "like"), is_undo=True))
    assert hydrated(world)[0] == ["5", "2"]


def test_topics_weigh_by_posts_and_by_their_place_and_interests_follow(a_world: World) -> None:
    world = a_world(
        [
            a_profile_updated(20, interests=("chess", "go")),
            *(a_post_created(post, 30) for post in range(1, 5)),
            a_post_annotated(1, topics=("cats", "go")),
            a_post_annotated(2, topics=("mills", "go")),
            a_post_annotated(3, topics=("go", "water")),
            a_post_annotated(4, topics=("rust",)),
            *acts((1, "like"), (2, "like"), (4, "like")),
            a_post_deleted(4),
            an_impression(20, 3, dwell_ms=7_000),
        ]
    )
    # go: 2/2 + 2/2 + 1; cats and mills: 2 (by code); water: 1/2; rust is gone with its post.
    assert hydrated(world)[1] == ["go", "cats", "mills", "water", "chess"]


def test_at_most_eight_topics(a_world: World) -> None:
    world = a_world([a_profile_updated(20, interests=tuple(f"t{n}" for n in range(12)))])
    assert hydrated(world) == ([], [f"t{n}" for n in range(8)])


def test_who_did_nothing_likes_nothing(a_world: World) -> None:
    assert hydrated(a_world()) == ([], [])


@pytest.mark.parametrize("field", [LIKED_POSTS, LIKED_TOPICS])
def test_without_a_history_the_fallback_is_nothing(field: Any) -> None:
    known = LikesQueryHydrator(None, None, None).fallback(a_query())  # type: ignore[arg-type]
    assert known[field].tolist() == []
    assert known[field].dtype == field.default.dtype
