"""What a viewer liked lately, as the sources get it."""

from collections.abc import Callable

from millrace.features.query_fields import LIKED_POSTS, LIKED_TOPICS
from millrace.mixer.query_hydrators.likes import MAX_POSTS, LikesQueryHydrator
from millrace.testing.builders import a_post_annotated, a_post_created, a_profile_updated, an_engagement
from millrace.testing.pipeline_builders import a_query
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]


def liked(world: FeedWorld) -> tuple[list[int], list[str]]:
    state = world.state
    stage = LikesQueryHydrator(state.engagements.histories, state.posts, state.profiles)
    found = stage.hydrate(a_query(viewer_id=int(state.hasher.users(["20"])[0])))
    topics = found[LIKED_TOPICS].tolist()  # type: ignore[index]
    return found[LIKED_POSTS].tolist(), [state.codes.topics.name(code) for code in topics]  # type: ignore[index]


def test_posts_come_newest_first_and_once_without_those_turned_down(a_world: World) -> None:
    world = a_world(
        [
            *(a_post_created(i) for i in range(4)),
            *(an_engagement(20, i, "like") for i in range(4)),
            an_engagement(20, 1, "reply"),
            an_engagement(20, 2, "report"),
            an_engagement(20, 3, "like", is_undo=True),
        ]
    )
    assert liked(world)[0] == [world.post_id(1), world.post_id(0)]


def test_topics_are_ordered_by_how_often_and_the_profiles_follow(a_world: World) -> None:
    world = a_world(
        [
            a_profile_updated(20, interests=("cats", "mills")),
            *(a_post_created(i) for i in range(3)),
            a_post_annotated(0, topics=("water",)),
            a_post_annotated(1, topics=("water", "mills")),
            *(an_engagement(20, i, "like") for i in range(3)),
        ]
    )
    assert liked(world)[1] == ["water", "mills", "cats"]


def test_only_the_newest_count_and_strangers_liked_nothing(a_world: World) -> None:
    assert liked(a_world()) == ([], [])
    world = a_world([event for i in range(70) for event in (a_post_created(i), an_engagement(20, i, "like"))])
    assert liked(world)[0] == [world.post_id(i) for i in range(69, 69 - MAX_POSTS, -1)]
