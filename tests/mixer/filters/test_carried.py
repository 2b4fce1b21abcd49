"""What a post carries counts as the page shows it: whatever its event says, and also where the carried row is gone."""

from collections.abc import Callable
from typing import Any

import pytest

from millrace.base.ids import Int64Array
from millrace.events.envelope import AnyEvent
from millrace.mixer.feed import FeedResponse
from millrace.mixer.filters.carried import CarriedFilter
from millrace.mixer.filters.viewer_settings import SensitiveFilter
from millrace.stores.post_store import PostStore
from millrace.testing.builders import (
    NOW_MS,
    a_block,
    a_follow,
    a_label_changed,
    a_mute,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_profile_updated,
)
from millrace.testing.pipeline_builders import a_batch, a_query
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]
HOUR_MS = 3_600_000
KINDS = ("reply", "repost", "quote")


def carried(**fields: Any) -> AnyEvent:
    """Return post 1, by 30."""
    return a_post_created(1, 30, text="a mill", at_ms=NOW_MS - HOUR_MS, **fields)


def carriers(parent_author: int | None = 30) -> list[AnyEvent]:
    """Return by 40, whom 20 follows, a reply to, a repost and a quote of post 1."""
    return [
        a_follow(20, 40),
        *(
            a_post_created(
                2 + n, 40, kind=kind, parent_id=1, parent_author_id=parent_author, at_ms=NOW_MS - 1_000, text="look"
            )
            for n, kind in enumerate(KINDS)
        ),
    ]


def both(world: FeedWorld) -> set[str]:
    """Return what of 40 the viewer gets at home or as the following timeline."""
    pages: tuple[FeedResponse, ...] = (world.page(), world.following())
    return {post.kind for page in pages for post in page.posts if post.author.user_id == "40"}


@pytest.fixture(params=["the row is there", "the row is gone"])
def a_world_with(request: pytest.FixtureRequest, a_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Make worlds; the post store has post 1, or the content store alone."""

    def make(events: list[AnyEvent]) -> FeedWorld:
        world = a_world([*events, a_post_created(9, 90, text="elsewhere")])
        if request.param == "the row is gone":
            find, gone = PostStore.find, world.post_id(1)

            def find_others(store: PostStore, post_ids: Int64Array) -> Any:
                rows = find(store, post_ids).copy()
                rows[post_ids == gone] = -1
                return rows

            monkeypatch.setattr(PostStore, "find", find_others)
        return world

    return make


def test_what_carries_a_sensitive_post_is_for_those_who_asked_for_it(a_world_with: World) -> None:
    assert both(a_world_with([carried(), *carriers()])) >= {"repost"}
    world = a_world_with([carried(is_sensitive=True), *carriers()])
    assert both(world) == set()
    world.hear([a_profile_updated(20, settings={"sensitive_media": "show"})])
    assert {post.kind for post in world.following(request_id="r2").posts} >= {"repost"}


def test_a_post_that_is_marked_later_is_as_sensitive(a_world_with: World) -> None:
    assert both(a_world_with([carried(), *carriers(), a_post_edited(1, is_sensitive=True)])) == set()


@pytest.mark.parametrize("claimed", [None, 40, 41], ids=["unnamed", "the carrier itself", "a third"])
@pytest.mark.parametrize(
    "rule",
    [a_block(20, 30), a_block(30, 20), a_mute(20, 30), a_label_changed("spam", user_id=30)],
    ids=["blocks", "is blocked", "mutes", "label"],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_whose_post_is_carried_is_not_for_the_carrier_to_say(
    a_world_with: World, rule: AnyEvent, claimed: int | None, is_late: bool
) -> None:
    events = [*carriers(claimed), carried()] if is_late else [carried(), *carriers(claimed)]
    assert both(a_world_with(events)) >= {"repost"}
    assert both(a_world_with([*events, rule])) == set()


def test_a_repost_of_the_viewers_own_post_is_one_whoever_is_named(a_world_with: World) -> None:
    own = a_post_created(1, 20, text="a mill", at_ms=NOW_MS - HOUR_MS)
    assert "repost" not in both(a_world_with([own, *carriers(41)]))


def test_the_name_beside_a_carried_post_is_that_of_who_wrote_it(a_world_with: World) -> None:
    named = [a_profile_updated(30, name="Ann"), a_profile_updated(41, name="Bob")]
    page = a_world_with([*named, carried(), *carriers(41)]).following()
    assert {post.parent.author.name for post in page.posts if post.parent} == {"Ann"}


def test_a_reply_or_quote_whose_parent_nobody_knows_stays(a_world: World) -> None:
    assert both(a_world([*carriers()])) == {"quote"}
    assert both(a_world([carried(is_sensitive=True), *carriers(), a_post_deleted(1)])) == {"quote"}


def test_it_asks_the_rules_that_apply_to_the_viewer() -> None:
    stage = CarriedFilter(SensitiveFilter(), SensitiveFilter())
    assert stage.reads == SensitiveFilter.reads
    batch = a_batch({SensitiveFilter.reads[0]: [True, False]})
    assert stage.keep(a_query(), batch).tolist() == [False, True]
    assert stage.keep(a_query({SensitiveFilter.reads[1]: True}), batch).tolist() == [True, True]
    assert "carries" in stage.explain(a_query(), batch, 0)
