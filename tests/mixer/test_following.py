"""The chronological timeline: by time alone, every content once a scroll, no page shifted by what arrives."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import StoreError
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Served
from millrace.features.columns import CREATED_MS, POST_ID
from millrace.features.query_fields import BEGINNING, BOUNDARY, FOLLOWING, Boundary
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.mixer.selectors.newest import NewestSelector
from millrace.mixer.sources.timeline import MAX_DEPTH, TimelineSource
from millrace.stores.claims import MemoryClaims
from millrace.testing.builders import (
    NOW_MS,
    a_block,
    a_follow,
    a_label_changed,
    a_mute,
    a_post_created,
    a_post_deleted,
    a_profile_updated,
    an_impression,
)
from millrace.testing.pipeline_builders import a_batch, a_query
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]
HOUR_MS = 3_600_000
_numbers = count()


def post(post_id: int, author: int = 10, minutes_ago: float = 0, **fields: Any) -> AnyEvent:
    at_ms = NOW_MS - int(minutes_ago * 60_000)
    return a_post_created(post_id, author, text=f"text {post_id}", at_ms=at_ms, **fields)


def repost(post_id: int, of: int, author: int = 10, minutes_ago: float = 0, by: int = 30) -> AnyEvent:
    return post(post_id, author, minutes_ago, kind="repost", parent_id=of, parent_author_id=by)


def ids(page: FeedResponse) -> list[str]:
    return [post.post_id for post in page.posts]


def scroll(world: FeedWorld, page: FeedResponse, **more: Any) -> list[list[str]]:
    """Return the posts of a page and of all that follow it."""
    pages = [ids(page)]
    while page.cursor is not None:
        page = world.following(cursor=page.cursor, request_id=f"s{next(_numbers)}", **more)
        pages.append(ids(page))
        assert len(pages) < 1_000
    assert page.end_of_feed
    return pages


def test_it_has_the_posts_of_those_one_follows_newest_first_and_nobody_else_s(a_world: World) -> None:
    world = a_world(
        [
            a_profile_updated(10, name="Ann"),
            a_follow(20, 10),
            a_follow(20, 11),
            post(1, 10, 30),
            post(2, 11, 20),
            post(3, 12, 10),
            post(4, 20, 5),
            post(5, 10, 25, kind="quote", parent_id=3, parent_author_id=12),
            repost(6, of=3, author=11, minutes_ago=1, by=12),
        ]
    )
    page = world.following()
    assert ids(page) == ["6", "2", "5", "1"]
    first, last = page.posts[0], page.posts[-1]
    assert (first.kind, first.reason, last.reason) == (
        "repost",
        "Reposted by 11, whom you follow",
        "You follow Ann",
    )
    assert first.parent is not None
    assert first.parent.text == "text 3"
    assert (last.author.name, last.sources, last.score, last.why) == ("Ann", ("timeline",), 0.0, None)
    assert page.end_of_feed
    assert page.cursor is None
    assert not page.degraded


def test_a_reload_shows_the_newest_again(a_world: World) -> None:
    world = a_world([a_follow(20, 10), post(1, minutes_ago=2), an_impression(20, 1)])
    assert ids(world.following()) == ["1"]
    world.hear([post(2, minutes_ago=1)])
    assert ids(world.following(request_id="r2")) == ["2", "1"]


def test_what_was_shown_there_is_not_on_the_ranked_feed_a_moment_later(a_world: World) -> None:
    world = a_world([a_follow(20, 10), post(1, minutes_ago=2), post(2, minutes_ago=1)])
    page = world.following(limit=1)
    (event,) = world.served.events
    served = event.payload
    assert isinstance(served, Served)
    assert served.pipeline == "following"
    assert [(item.post_id, item.scores) for item in served.items] == [("2", {})]
    world.hear([event])
    assert ids(page) == ["2"]
    assert ids(world.home(request_id="r2")) == ["1"]


def test_what_was_shown_there_is_not_on_the_ranked_feed_before_anybody_folds_that_it_was(a_world: World) -> None:
    world = a_world([a_follow(20, 10), post(1, minutes_ago=3), post(2, minutes_ago=2), repost(3, of=2, minutes_ago=1)])
    assert ids(world.following(limit=1)) == ["3"]
    assert ids(world.home(request_id="r2")) == ["1"]
    assert ids(world.following(request_id="r3")) == ["3", "1"]  # what left elsewhere is read there all the same
    assert world.following(request_id="r4", is_dry_run=True).posts
    assert ids(world.home(request_id="r5")) == []


def test_a_look_at_the_timeline_claims_nothing(a_world: World) -> None:
    world = a_world([a_follow(20, 10), post(1)])
    assert ids(world.following(is_dry_run=True)) == ["1"]
    assert ids(world.home(request_id="r2")) == ["1"]


def test_of_two_requests_for_one_page_the_one_that_goes_takes_no_claim_with_it(a_world: World) -> None:
    world = a_world([a_follow(20, 10), post(1), post(2, 11)])

    async def run() -> None:
        _, result = await world.service.following_with_result(FeedRequest(viewer_id="20", request_id="goes"))
        await world.service.following(FeedRequest(viewer_id="20", request_id="stays"))
        world.service.following_pipeline.abandon(result.query)
        await world.service.drain()

    asyncio.run(run())
    assert ids(world.home(request_id="r2")) == ["2"]


def test_it_is_read_without_a_claim_store_and_says_so(a_world: World) -> None:
    class Down(MemoryClaims):
        def claim(self, *_: Any, **__: Any) -> Any:
            raise StoreError("claims", problem="down", remedy="none")

    world = a_world(
        [a_follow(20, 10), post(1)], claims=Down(), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000)
    )
    page = world.following(debug=True)
    assert (ids(page), page.degraded) == (["1"], True)
    assert page.debug_info is not None
    (outcome,) = page.debug_info.outcomes
    assert (outcome.component, outcome.fate) == ("claim_shown", "failed")
    assert page.end_of_feed


@pytest.mark.parametrize(
    "event",
    [
        a_block(20, 10),
        a_block(10, 20),
        a_mute(20, 10),
        a_mute(20, keyword="text"),
        a_post_deleted(1),
        a_label_changed("spam", post_id=1),
        a_label_changed("suspended", user_id=10),
        a_follow(20, 10, is_following=False),
    ],
    ids=["blocks", "is blocked", "mutes", "mutes a word", "deleted", "unsafe", "by a suspended account", "unfollows"],
)
def test_what_a_viewer_must_not_get_is_not_there(a_world: World, event: AnyEvent) -> None:
    assert ids(a_world([a_follow(20, 10), post(1)]).following()) == ["1"]
    assert ids(a_world([a_follow(20, 10), post(1), event]).following()) == []


def test_sensitive_posts_and_reposts_of_muted_and_own_and_deleted_ones_are_not_there(a_world: World) -> None:
    world = a_world(
        [
            a_follow(20, 10),
            post(1, is_sensitive=True),
            post(31, 30),
            post(32, 31),
            post(33, 20),
            repost(2, of=31, by=30),
            repost(3, of=32, by=31),
            repost(4, of=33, by=20),
            a_mute(20, 30),
            a_post_deleted(32),
        ]
    )
    assert ids(world.following()) == []


def test_pages_go_on_where_the_one_before_ended_whatever_arrives_meanwhile(a_world: World) -> None:
    world = a_world([a_follow(20, 10), *(post(n, minutes_ago=n) for n in range(1, 31))])
    first = world.following(limit=10)
    assert ids(first) == [str(n) for n in range(1, 11)]
    world.hear([post(100 + n, minutes_ago=0) for n in range(5)])
    world.hear([a_post_deleted(15), a_post_deleted(10)])
    second = world.following(limit=10, cursor=first.cursor, request_id="r2")
    assert ids(second) == [str(n) for n in range(11, 22) if n != 15]
    third = world.following(limit=10, cursor=second.cursor, request_id="r3")
    assert ids(third) == [str(n) for n in range(22, 31)]
    assert third.end_of_feed
    again = world.following(limit=10, cursor=first.cursor, request_id="r4")
    assert msgspec.json.encode(again) == msgspec.json.encode(second)
    assert ids(world.following(limit=6, request_id="r5"))[5] == "1"


def test_posts_of_one_millisecond_are_each_shown_once(a_world: World) -> None:
    world = a_world([a_follow(20, 10), *(post(n) for n in range(1, 31))])
    pages = scroll(world, world.following(limit=7), limit=7)
    assert [len(page) for page in pages] == [7, 7, 7, 7, 2]
    assert len({post_id for page in pages for post_id in page}) == 30


def test_who_scrolls_meets_a_content_where_it_appears_first(a_world: World) -> None:
    """A repost that arrives meanwhile stands above the top of the scroll and hides nothing below it."""
    world = a_world(
        [
            a_follow(20, 10),
            a_follow(20, 11),
            post(1, 11, 90),
            *(post(n, 10, n) for n in range(2, 12)),
            repost(50, of=1, author=10, minutes_ago=1, by=11),
            repost(51, of=99, author=10, minutes_ago=3.5, by=12),
            repost(52, of=99, author=11, minutes_ago=60, by=12),
            post(99, 12, 120),
        ]
    )
    pages = scroll(world, first := world.following(limit=4), limit=4)
    shown = [post_id for page in pages for post_id in page]
    assert shown == ["50", "2", "3", "51", "4", "5", "6", "7", "8", "9", "10", "11"]
    world.hear([repost(53, of=7, author=11, minutes_ago=0, by=10)])
    after = scroll(world, world.following(limit=3, cursor=first.cursor, request_id="other"), limit=3)
    assert "7" in {post_id for page in after for post_id in page}
    assert ids(world.following(request_id="reload"))[0] == "53"


def test_a_repost_that_may_not_be_shown_hides_nothing(a_world: World) -> None:
    hidden = [a_follow(20, 12), repost(50, of=1, author=12, minutes_ago=1, by=11), a_mute(20, 12)]
    world = a_world([a_follow(20, 10), a_follow(20, 11), *hidden, post(2, 10, 2), post(1, 11, 90)])
    assert scroll(world, world.following(limit=1), limit=1)[:2] == [["2"], ["1"]]


def test_a_long_stretch_of_posts_that_may_not_be_shown_is_passed_over(a_world: World) -> None:
    """Twice as many as are read for a page, all muted, between two that may."""
    muted = [post(1_000 + n, 100 + n // 40, 10 + n / 1_000) for n in range(600)]
    mutes = [event for n in range(15) for event in (a_follow(20, 100 + n), a_mute(20, 100 + n))]
    world = a_world([a_follow(20, 10), post(1, minutes_ago=1), post(2, minutes_ago=60), *muted, *mutes])
    shown = [post_id for page in scroll(world, world.following(limit=10), limit=10) for post_id in page]
    assert shown == ["1", "2"]


def test_a_timeline_that_is_not_full_because_something_failed_is_not_at_its_end(a_world: World) -> None:
    world = a_world([a_follow(20, 10), post(1)], config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    source = world.service.following_pipeline.stages.sources[0]
    posts, source._posts = source._posts, None  # type: ignore[attr-defined]
    page = world.following()
    assert (ids(page), page.degraded, page.end_of_feed) == ([], True, False)
    source._posts = posts  # type: ignore[attr-defined]
    assert ids(world.following(cursor=page.cursor, request_id="r2")) == ["1"]


def test_it_goes_as_deep_as_the_param_says(a_world: World) -> None:
    world = a_world([a_follow(20, 10), *(post(n, minutes_ago=n) for n in range(1, 31))], params={MAX_DEPTH.name: 12})
    assert [len(page) for page in scroll(world, world.following(limit=10), limit=10)] == [10, 2]


def test_the_source_reads_from_the_top_of_the_scroll_to_far_enough_below_the_boundary(a_world: World) -> None:
    follows = [a_follow(20, 100 + n) for n in range(20)]
    world = a_world([*follows, *(post(n, 100 + n % 20, minutes_ago=n) for n in range(1, 801))])
    source = TimelineSource(world.state.posts)
    viewer_id = world.state.hasher.users(["20"])[0]
    following = world.state.follow_graph.following(viewer_id)

    def read(boundary: Boundary) -> list[int]:
        query = a_query({FOLLOWING: following, BOUNDARY: boundary}, viewer_id=int(viewer_id), limit=10)
        return source.retrieve(query)[POST_ID].tolist()  # type: ignore[no-any-return]

    def place(n: int) -> tuple[int, int]:
        return NOW_MS - n * 60_000, world.post_id(n)

    everything = [world.post_id(n) for n in range(1, 801)]
    assert read(BEGINNING) == everything[:256]
    assert read(Boundary(*place(1), *place(200))) == everything
    assert read(Boundary(*place(3), *place(20))) == everything[2:256]


def test_the_selector_takes_the_newest_ties_by_id() -> None:
    batch = a_batch({POST_ID: [4, 3, 2, 1], CREATED_MS: [2**53 + 1, 2**53 + 1, 2**53 + 2, 7]})
    assert NewestSelector().select(a_query(), batch, 3).tolist() == [2, 1, 0]
    assert NewestSelector().select(a_query(), batch.take(np.arange(0)), 3).tolist() == []


@given(
    times=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3), st.integers(0, 6)), max_size=30),
    limit=st.integers(1, 7),
    arrivals=st.lists(st.integers(1, 5), max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_a_scroll_shows_every_content_once_newest_first_whatever_arrives(
    tmp_path_factory: pytest.TempPathFactory, times: list[tuple[int, int, int]], limit: int, arrivals: list[int]
) -> None:
    """Posts in any order, some of them reposts of others or of what nobody follows."""
    folder = tmp_path_factory.mktemp("world")
    events: list[AnyEvent] = [a_follow(20, 10 + n) for n in range(4)]
    content = {}
    strangers = [post(900 + n, 99, 100) for n in range(4)]
    for n, (minutes, author, of) in enumerate(times, start=1):
        if of >= 3:
            events.append(post(n, 10 + author, minutes))
            content[str(n)] = str(n)
        else:
            events.append(repost(n, of=900 + of, author=10 + author, minutes_ago=minutes, by=99))
            content[str(n)] = str(900 + of)
    world = FeedWorld(folder, [*strangers, *events])
    try:
        page = world.following(limit=limit)
        shown = list(page.posts)
        new = 1_000
        for n_new in arrivals:
            if page.cursor is None:
                break
            world.hear([post(new + k, 10 + k % 4, 0) for k in range(n_new)])
            new += n_new
            page = world.following(limit=limit, cursor=page.cursor, request_id=f"s{next(_numbers)}")
            shown += page.posts
        while page.cursor is not None:
            page = world.following(limit=limit, cursor=page.cursor, request_id=f"s{next(_numbers)}")
            shown += page.posts
        assert page.end_of_feed
        contents = [content[post.post_id] for post in shown if int(post.post_id) < 900]
        assert len(contents) == len(set(contents))
        assert set(contents) == set(content.values())
        moments = [post.created_at_ms for post in shown]
        assert moments == sorted(moments, reverse=True)
        old = [post for post in shown if int(post.post_id) >= 1_000]
        assert all(post.created_at_ms == NOW_MS for post in old)  # below a top of the same millisecond, if at all
    finally:
        world.close()


def test_pages_of_both_timelines_are_made_side_by_side(a_world: World) -> None:
    world = a_world([a_follow(20, 10), *(post(n, minutes_ago=n) for n in range(1, 4))])

    async def run() -> list[FeedResponse]:
        calls = [world.service.home, world.service.following] * 3
        requests = [FeedRequest(viewer_id="20", request_id=f"r{n}", limit=2) for n in range(6)]
        pages = await asyncio.gather(*(call(request) for call, request in zip(calls, requests, strict=True)))
        await world.service.drain()
        return list(pages)

    pages = asyncio.run(run())
    assert [ids(page) for page in pages[1::2]] == [["1", "2"]] * 3
    ranked = [post_id for page in pages[::2] for post_id in ids(page)]
    assert sorted(ranked) == ["1", "2", "3"]


def test_it_says_why_a_post_is_not_there(a_world: World) -> None:
    world = a_world(
        [
            a_follow(20, 10),
            *(post(n, 10, n) for n in range(1, 6)),
            post(6, 10, 60 * 72),
            post(7, 11, 1),
            post(8, 11, 9, kind="reply", parent_id=7, parent_author_id=11),
            post(9, 10, 8, kind="reply", parent_id=8, parent_author_id=11),
            a_post_deleted(5),
        ]
    )
    viewer_id = world.state.hasher.users(["20"])[0]
    source = TimelineSource(world.state.posts)

    def why(n: int, boundary: Boundary = BEGINNING, **params: Any) -> str:
        fields = {FOLLOWING: world.state.follow_graph.following(viewer_id), BOUNDARY: boundary}
        query = a_query(fields, viewer_id=int(viewer_id), params={MAX_DEPTH: params.get("max_depth", 100)})
        return source.explain(query, world.post_id(n))

    assert why(7) == "its author is not among the 1 account that you follow"
    assert why(6) == "it is 72.0 hours old; the limit is 48"
    assert why(5) == "it was deleted"
    assert why(9) == "it answers or reposts something that those who follow its author are not shown"
    assert why(3) == "those you follow published 2 newer ones, and a page looks only as deep as fills it"
    assert why(3, max_depth=2) == "the timeline is 2 posts deep, and those you follow published as many newer ones"
    top = Boundary(NOW_MS - 120_000, world.post_id(2), NOW_MS - 120_000, world.post_id(2))
    assert why(1, top) == "it is newer than the top of this scroll: a reload shows it"
