"""Whatever happened before, in whatever order: pages keep the rules, and requests side by side share nothing."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.events.envelope import AnyEvent
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.testing.builders import NOW_MS, a_follow, a_post_created
from millrace.testing.pipeline_world import FeedWorld
from millrace.testing.strategies import event_sequences

World = Callable[..., FeedWorld]


@given(events=event_sequences(), viewer=st.integers(1, 12), limit=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_pages_of_any_history_are_sound_and_the_same_again(events: list[AnyEvent], viewer: int, limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pages = []
        for part in "ab":
            path = Path(folder) / part
            path.mkdir()
            world = FeedWorld(path, events)
            try:
                page, result = world.page_with_result(viewer, limit=limit)
                again = world.page(viewer, request_id="r2")
            finally:
                world.close()
            pages.append(msgspec.json.encode(page))
            ids = [post.post_id for post in page.posts]
            assert len(ids) == len(set(ids)) <= limit
            assert all(post.author.user_id != str(viewer) for post in page.posts)
            assert all(post.reason and post.sources for post in page.posts)
            assert (page.cursor is None) == page.end_of_feed
            assert not page.end_of_feed or len(ids) < limit
            assert not page.degraded
            assert not page.end_of_feed or again.posts == ()
            assert not set(ids) & {post.post_id for post in again.posts}
            kept = int((result.dropped_by == 0).sum())
            assert kept == result.ranked.n
        assert pages[0] == pages[1]


def test_requests_side_by_side_share_no_post(a_world: World) -> None:
    posts = [a_post_created(1_000 + i, 100 + i, at_ms=NOW_MS - i) for i in range(150)]
    world = a_world([*posts, *[a_follow(20, 100 + i) for i in range(50)]])

    async def run() -> list[FeedResponse]:
        requests = [FeedRequest(viewer_id="20", request_id=f"r{i}") for i in range(5)]
        return await asyncio.gather(*(world.service.home(request) for request in requests))

    ids = [post.post_id for page in asyncio.run(run()) for post in page.posts]
    assert len(ids) == len(set(ids)) == 150
