"""What a viewer does changes that viewer's next page, and nobody else's: with the batch of events that has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from millrace.events.envelope import AnyEvent
from millrace.mixer.feed import FeedResponse
from millrace.testing.builders import NOW_MS, a_block, a_follow, a_mute, a_post_created, an_engagement
from millrace.testing.pipeline_world import FeedWorld

MakeWorld = Callable[..., FeedWorld]
OTHER = 21


def posts() -> list[AnyEvent]:
    """Twelve authors, four posts each, about four things."""
    return [
        a_post_created(
            100 * author + n,
            author,
            text=f"thing{author % 4} wheel{author % 4} stream{author % 4} number {n}",
            at_ms=NOW_MS - 3_600_000 - 100 * author - n,
        )
        for author in range(1, 13)
        for n in range(4)
    ]


def authors_of(page: FeedResponse) -> set[str]:
    return {post.author.user_id for post in page.posts}


def sources_of(page: FeedResponse) -> set[str]:
    return {source for post in page.posts for source in post.sources}


@pytest.mark.parametrize(
    "act", [lambda author: a_block(20, author), lambda author: a_mute(20, author)], ids=["block", "mute"]
)
def test_an_author_who_is_not_wanted_is_gone_from_the_next_page(
    a_world: MakeWorld, act: Callable[[str], AnyEvent]
) -> None:
    world = a_world(posts())
    author = world.page(limit=10, is_dry_run=True).posts[0].author.user_id
    assert author in authors_of(world.page(request_id="r2", limit=48, is_dry_run=True))
    world.hear([act(author)])
    assert author not in authors_of(world.page(request_id="r3", limit=48, is_dry_run=True))
    assert author in authors_of(world.page(OTHER, request_id="r4", limit=48, is_dry_run=True))


def test_an_author_who_is_followed_is_on_the_next_page_as_such(a_world: MakeWorld) -> None:
    world = a_world(posts())
    before = world.page(limit=10, is_dry_run=True)
    assert "in_network" not in sources_of(before)
    world.hear([a_follow(20, before.posts[-1].author.user_id)])
    assert "in_network" in sources_of(world.page(request_id="r2", limit=10, is_dry_run=True))
    assert "in_network" not in sources_of(world.page(OTHER, request_id="r3", limit=10, is_dry_run=True))


def test_what_is_like_a_liked_post_is_on_the_next_page(a_world: MakeWorld) -> None:
    world = a_world(posts())
    before = world.page(limit=10, is_dry_run=True)
    assert "similar_content" not in sources_of(before)
    liked = before.posts[0]
    world.hear([an_engagement(20, liked.post_id, "like")])
    after = world.page(request_id="r2", limit=20, is_dry_run=True)
    found = [post for post in after.posts if "similar_content" in post.sources]
    assert found
    assert any(post.text.split()[0] == liked.text.split()[0] for post in found)
    assert "similar_content" not in sources_of(world.page(OTHER, request_id="r3", limit=20, is_dry_run=True))
