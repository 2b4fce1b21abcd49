"""Pages one after the other, and pages asked for again."""

import asyncio
import threading
import uuid
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from millrace.base.errors import NotReadyError, SchemaError, StoreError
from millrace.events.envelope import AnyEvent
from millrace.mixer import paging
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.stores.claims import MemoryClaims
from millrace.stores.redis_claims import RedisClaims
from millrace.testing.builders import (
    NOW_MS,
    a_mute,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_profile_updated,
)
from millrace.testing.pipeline_world import FeedWorld

World = Callable[..., FeedWorld]
TEN_MINUTES_MS = 600_000


def posts(n: int, first: int = 1_000, n_authors: int = 1_000) -> list[AnyEvent]:
    return [a_post_created(p, f"a{p % n_authors}", at_ms=NOW_MS - p) for p in range(first, first + n)]


def ids(page: FeedResponse) -> list[str]:
    return [post.post_id for post in page.posts]


def json(page: FeedResponse) -> bytes:
    return msgspec.json.encode(page)


def scroll(world: FeedWorld, page: FeedResponse, **more: Any) -> list[FeedResponse]:
    """Return a page and all that follow it."""
    pages = [page]
    while pages[-1].cursor is not None:
        request_id = f"{page.request_id}-{len(pages)}"
        pages.append(world.home(cursor=pages[-1].cursor, request_id=request_id, **more))
        assert len(pages) < 1_000
    return pages


def test_pages_are_full_as_long_as_posts_last_and_the_last_one_says_so(a_world: World) -> None:
    world = a_world(posts(88))
    pages = scroll(world, world.home(limit=20), limit=20)
    assert [len(page.posts) for page in pages] == [20, 20, 20, 20, 8]
    assert [page.end_of_feed for page in pages] == [False] * 4 + [True]
    assert len({post for page in pages for post in ids(page)}) == 88


def test_a_pool_that_ends_with_a_full_page_ends_with_an_empty_one(a_world: World) -> None:
    world = a_world(posts(40))
    pages = scroll(world, world.home(limit=20), limit=20)
    assert [len(page.posts) for page in pages] == [20, 20, 0]


def test_a_pool_of_one_author_is_shown_to_the_end_three_posts_a_page(a_world: World) -> None:
    world = a_world(posts(8, n_authors=1))
    pages = scroll(world, world.home())
    assert [len(page.posts) for page in pages] == [3, 3, 2]


def test_a_pool_larger_than_all_sources_together_is_shown_to_the_end(a_world: World) -> None:
    """What left is looked past by every source."""
    world = a_world(posts(2_000))
    pages = scroll(world, world.home(limit=50), limit=50)
    assert {len(page.posts) for page in pages[:-1]} == {50}
    assert len({post for page in pages for post in ids(page)}) == 2_000


@pytest.mark.parametrize("is_sensitive", [True, False], ids=["sensitive", "in another language"])
def test_newer_posts_that_may_not_be_shown_do_not_end_the_feed(a_world: World, is_sensitive: bool) -> None:
    """More of them than any source takes, all newer than the fifty that may."""
    unfit = [
        a_post_created(n, n, text="x", at_ms=NOW_MS - 1_000 * n, is_sensitive=is_sensitive) for n in range(1, 1_501)
    ]
    fit = [a_post_created(10_000 + n, 5_000 + n, text="ok", at_ms=NOW_MS - 20 * 3_600_000 - n) for n in range(50)]
    about = [] if is_sensitive else [a_profile_updated(20, languages=("ja",))]
    if not is_sensitive:
        about += [a_post_annotated(n, language="en") for n in range(1, 1_501)]
        about += [a_post_annotated(10_000 + n, language="ja") for n in range(50)]
    world = a_world([*unfit, *fit, *about], params={"new_authors.max_age_d": 0.0})
    pages = scroll(world, world.home(limit=40), limit=40)
    assert [(len(page.posts), page.end_of_feed) for page in pages] == [(40, False), (10, True)]


def test_a_last_resort_that_gave_all_it_may_is_not_at_its_end(a_world: World) -> None:
    """What late filters drop no source knows of: here a word that the viewer mutes."""
    muted = [a_post_created(n, n, text="zebra", at_ms=NOW_MS - n) for n in range(1, 6)]
    events = [*muted, a_post_created(9, 9, text="ok", at_ms=NOW_MS - 9), a_mute(20, keyword="zebra")]
    params = {"new_authors.max_age_d": 0.0}
    page = a_world(events, params={**params, "recent.max_posts": 5}).home()
    assert (ids(page), page.end_of_feed) == ([], False)
    page = a_world(events, params={**params, "recent.max_posts": 7}).home()
    assert (ids(page), page.end_of_feed) == (["9"], True)


def test_the_same_cursor_gives_the_same_page_for_ten_minutes(a_world: World) -> None:
    claims = MemoryClaims()
    world, other = a_world(posts(90), claims=claims), a_world(posts(90), claims=claims)
    first = world.home(limit=20)
    second = world.home(limit=20, cursor=first.cursor, request_id="r2")
    third = world.home(limit=20, cursor=second.cursor, request_id="r3")
    world.hear([a_post_created("new", "b"), a_post_deleted(ids(second)[0])])
    other.clock.advance_ms(TEN_MINUTES_MS - 1)
    for number, asked in enumerate((world, other, other)):
        again = asked.home(limit=35, cursor=first.cursor, request_id=f"again-{number}")
        assert json(again) == json(second)
    other.clock.advance_ms(1)
    anew = other.home(limit=20, cursor=first.cursor, request_id="r4")
    shown = [set(ids(page)) for page in (first, second, third, anew)]
    assert len(set.union(*shown)) == sum(map(len, shown)) == 80
    assert len(world.served.events) == 3  # a page that was sent again was served once


def test_the_same_request_id_of_a_client_gives_the_same_first_page(a_world: World) -> None:
    world = a_world(posts(90))
    first = world.home(limit=20, correlation_id="tab-1", request_id="r1")
    assert json(world.home(limit=20, correlation_id="tab-1", request_id="r2")) == json(first)
    assert first.request_id == "r1"
    other_tab = world.home(limit=20, correlation_id="tab-2", request_id="r3")
    nameless = [world.home(limit=20, request_id=f"r{number}") for number in (4, 5)]
    shown = [set(ids(page)) for page in (first, other_tab, *nameless)]
    assert len(set.union(*shown)) == 80
    assert ids(world.home(viewer_id=21, limit=20, correlation_id="tab-1", request_id="r6")) == ids(first)
    next_page = world.home(limit=10, correlation_id="tab-1", cursor=first.cursor, request_id="r7")
    assert not set(ids(next_page)) & set(ids(first))


def test_a_page_that_is_sent_again_has_debug_information_only_where_it_is_asked_for(a_world: World) -> None:
    world = a_world(posts(9))
    assert world.home(correlation_id="c").debug_info is None
    again = world.home(correlation_id="c", debug=True, request_id="r2")
    assert again.debug_info is not None
    assert again.debug_info.candidate_count == 9
    assert json(world.home(correlation_id="c", debug=True, request_id="r3")) == json(again)
    assert world.home(correlation_id="c", request_id="r4").debug_info is None


def test_two_requests_for_one_page_at_once_get_one_page_and_the_other_s_claims_are_given_back(a_world: World) -> None:
    world = a_world(posts(100), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000, max_concurrent=5))
    n_made = 0
    make = world.service._make
    all_there = asyncio.Event()

    async def made_at_once(*args: Any) -> Any:
        nonlocal n_made
        made = await make(*args)
        n_made += 1
        if n_made == 3:
            all_there.set()
        await all_there.wait()
        return made

    async def run() -> list[FeedResponse]:
        world.service._make = made_at_once  # type: ignore[method-assign]
        requests = [
            FeedRequest(viewer_id="20", request_id=f"r{number}", limit=20, correlation_id="c") for number in range(3)
        ]
        try:
            return await asyncio.gather(*map(world.service.home, requests))
        finally:
            world.service._make = make  # type: ignore[method-assign]
            await world.service.drain()

    pages = asyncio.run(run())
    assert len({json(page) for page in pages}) == 1
    assert len(world.served.events) == 1
    rest = scroll(world, world.home(limit=50, request_id="rest"), limit=50)
    assert len({post for page in rest for post in ids(page)}) == 80


def test_a_page_that_may_have_been_kept_keeps_its_claims(a_world: World) -> None:
    """The answer was lost on the way from the store: whoever asks for the page again gets it."""

    class Forgetful(MemoryClaims):
        is_broken = True

        def keep_page(self, *args: Any, **more: Any) -> bytes:
            kept = super().keep_page(*args, **more)
            if self.is_broken:
                raise StoreError("claims", problem="the answer was lost", remedy="none")
            return kept

    claims = Forgetful()
    world = a_world(posts(30), claims=claims)
    with pytest.raises(NotReadyError, match="the answer was lost"):
        world.home(limit=20, correlation_id="c")
    claims.is_broken = False
    kept = world.home(limit=20, correlation_id="c", request_id="r2")
    # What it was made from is gone by now: what was on it is written down when it may have been kept.
    assert [event.payload.request_id for event in world.served.events] == [kept.request_id]
    other = world.home(request_id="r3")
    assert len(set(ids(kept)) | set(ids(other))) == 30


def test_a_dry_run_keeps_no_page(a_world: World) -> None:
    world = a_world(posts(90))
    first = world.home(limit=20, request_id="r1")
    for asked in ({"cursor": first.cursor}, {"correlation_id": "c"}):
        looked_at = world.home(limit=20, request_id="dry", is_dry_run=True, **asked)
        assert looked_at.request_id == "dry"
        assert world.home(limit=20, request_id=f"after-{next(iter(asked))}", **asked).request_id != "dry"
    assert len(world.served.events) == 3


@pytest.mark.parametrize("damage", [lambda data: zlib.compress(without_end(data)), lambda data: data[:-9]])
def test_a_kept_page_that_cannot_be_read_is_made_anew(a_world: World, damage: Callable[[bytes], bytes]) -> None:
    class Damaged(MemoryClaims):
        def page(self, *args: Any) -> bytes | None:
            kept = super().page(*args)
            return kept and damage(kept)

        def keep_page(self, *args: Any, **more: Any) -> bytes:
            kept = super().keep_page(*args, **more)
            return kept if kept == args[2] else damage(kept)

    world = a_world(posts(30), claims=Damaged())
    first = world.home(limit=20, correlation_id="c", request_id="r1")
    again = world.home(limit=20, correlation_id="c", request_id="r2")
    assert len(set(ids(first)) | set(ids(again))) == 30


def without_end(data: bytes) -> bytes:
    page = msgspec.msgpack.decode(zlib.decompress(data))
    del page["end_of_feed"]
    return msgspec.msgpack.encode(page)


def test_pages_of_another_layout_are_kept_apart(a_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of two releases: neither reads what it does not know."""
    claims = MemoryClaims()
    world = a_world(posts(30), claims=claims)
    first = world.home(limit=20, correlation_id="c", request_id="r1")
    monkeypatch.setattr(paging, "_LAYOUT", "another")
    other = world.home(limit=20, correlation_id="c", request_id="r2")
    assert len(set(ids(first)) | set(ids(other))) == 30
    assert json(world.home(limit=20, correlation_id="c", request_id="r3")) == json(other)


def test_a_store_that_does_not_answer_ends_the_request(a_world: World) -> None:
    class Silent(MemoryClaims):
        def page(self, *_: Any) -> Any:
            raise StoreError("claims", problem="down", remedy="none")

    with pytest.raises(NotReadyError, match="ask again"):
        a_world(posts(3), claims=Silent()).home(correlation_id="c")


def test_cursors_of_others_and_garbage_are_refused(a_world: World) -> None:
    world = a_world(posts(90))
    page = world.home(limit=20)
    for wrong in ({"viewer_id": 21, "cursor": page.cursor}, {"cursor": "garbage"}, {"cursor": ""}):
        with pytest.raises(SchemaError, match="cursor"):
            world.home(request_id="r2", **wrong)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="cursor"):
        world.following(request_id="r2", cursor=page.cursor)
    assert len(world.served.events) == 1


class RemoteClaims(MemoryClaims):
    """A store whose every call must come from a thread: the event loop would stand still."""

    is_remote = True

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()
        for name in ("claimed", "claim", "page", "keep_page"):
            setattr(self, name, partial(self._in_thread, name, getattr(self, name)))

    def _in_thread(self, name: str, method: Callable[..., Any], *args: Any, **more: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread(), name
        self.called.add(name)
        return method(*args, **more)


def test_a_store_behind_a_network_is_never_asked_on_the_event_loop(a_world: World) -> None:
    claims = RemoteClaims()
    world = a_world(posts(50), claims=claims)
    first = world.home(limit=20, correlation_id="c")
    assert json(world.home(limit=20, correlation_id="c", request_id="r2")) == json(first)
    rest = scroll(world, world.home(limit=20, cursor=first.cursor, request_id="r3"), limit=20)
    assert [len(page.posts) for page in (first, *rest)] == [20, 20, 10]
    assert claims.called == {"claimed", "claim", "page", "keep_page"}


@pytest.mark.service
def test_pages_over_redis_share_nothing_and_come_again(a_world: World, redis_url: str) -> None:
    claims = RedisClaims(redis_url, prefix=f"millrace-test-{uuid.uuid4().hex}")
    worlds = [a_world(posts(50), claims=claims) for _ in range(2)]
    first = worlds[0].home(limit=20, correlation_id="c")
    assert json(worlds[1].home(limit=20, correlation_id="c", request_id="r2")) == json(first)
    rest = scroll(worlds[1], worlds[1].home(limit=20, cursor=first.cursor, request_id="r3"), limit=20)
    shown = [post for page in (first, *rest) for post in ids(page)]
    assert len(shown) == len(set(shown)) == 50
    claims.close()
