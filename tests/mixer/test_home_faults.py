"""The home feed when something fails or somebody else is quicker: what is left out, claimed, given back."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from millrace.base.errors import NotReadyError, StoreError
from millrace.base.ids import IdKind
from millrace.features.columns import POST_ID
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.pipeline.outcome import Fate
from millrace.stores.claims import MemoryClaims
from millrace.testing.builders import (
    NOW_MS,
    a_follow,
    a_label_changed,
)
from millrace.testing.pipeline_fakes import RecordingObserver
from millrace.testing.pipeline_world import FeedWorld, many_authors, posts_by

HOUR_MS = 3_600_000
World = Callable[..., FeedWorld]


def ids(page: FeedResponse) -> list[str]:
    return [post.post_id for post in page.posts]


class Broken:
    """A store of which every method fails."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(f"{name} is down")

        return fail


def test_a_broken_source_or_ranker_leaves_a_page_and_says_so(a_world: World) -> None:
    world = a_world(many_authors(5), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    (popular,) = (source for source in world.service.pipeline.stages.sources if source.name == "popular")
    popular._counters = Broken()  # type: ignore[attr-defined]
    world.service.pipeline.stages.rankers[0]._base = None  # type: ignore[attr-defined]
    page, result = world.page_with_result(debug=True)
    assert len(page.posts) == 5
    assert page.degraded
    assert page.debug_info is not None
    assert {outcome.component for outcome in page.debug_info.outcomes} == {"popular", "counters"}
    served = world.served.events[0].payload
    assert {outcome.component for outcome in served.outcomes} == {"popular", "counters"}
    assert result.slate[POST_ID].shape == (5,)


def test_without_block_lists_nothing_is_shown(a_world: World) -> None:
    world = a_world(many_authors(5), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    world.service.pipeline.stages.query_hydrators[1]._relations = Broken()  # type: ignore[attr-defined]
    page = world.page(debug=True)
    assert page.posts == ()
    assert page.degraded


def test_without_labels_nothing_is_shown(a_world: World) -> None:
    world = a_world(
        [*many_authors(5), a_label_changed("spam", post_id=1100)],
        config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000),
    )
    (stage,) = (stage for stage in world.service.pipeline.stages.hydrators if stage.name == "labels")
    stage._labels = Broken()  # type: ignore[attr-defined]
    page = world.page(debug=True)
    assert page.posts == ()
    assert page.debug_info is not None
    assert {(o.component, o.fate) for o in page.debug_info.outcomes} == {
        ("labels", "failed"),
        ("unsafe", "blind"),
        ("carried", "blind"),
    }


def test_without_reputations_the_page_stays(a_world: World) -> None:
    world = a_world(many_authors(5), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    (stage,) = (stage for stage in world.service.pipeline.stages.hydrators if stage.name == "reputation")
    stage.hydrate = Broken().hydrate  # type: ignore[method-assign]
    assert len(world.page().posts) == 5


class NoClaims(MemoryClaims):
    """A store that neither claims nor tells what is claimed."""

    def claimed(self, *_: Any) -> Any:
        raise StoreError("claims", problem="down", remedy="wait")

    claim = claimed


def test_without_claims_nothing_leaves(a_world: World) -> None:
    observer = RecordingObserver()
    config = HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000)
    world = a_world(many_authors(5), config=config, claims=NoClaims(), observer=observer)
    with pytest.raises(NotReadyError, match=r"claims: the store does not do its work.*ask again in a moment"):
        world.page(debug=True)
    (report,) = observer.reports
    assert {(o.component, o.fate) for o in report.outcomes} == {
        ("claimed", Fate.FAILED),
        ("claimed", Fate.BLIND),
        ("floor", Fate.BLIND),
        ("claims", Fate.FAILED),
    }
    assert world.served.events == []


def test_without_a_look_at_the_claims_pages_still_share_nothing(a_world: World) -> None:
    class Blind(MemoryClaims):
        def claimed(self, *_: Any) -> Any:
            raise StoreError("claims", problem="down", remedy="wait")

    world = a_world(
        many_authors(60),
        config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000, max_refills=100),
        claims=Blind(),
    )
    first, second = world.page(request_id="a", limit=30), world.page(request_id="b", limit=30)
    assert len(set(ids(first)) | set(ids(second))) == 60
    assert first.degraded
    assert not second.end_of_feed  # what could not be looked at may be more


def test_what_left_never_comes_again_in_any_form_within_the_window(a_world: World) -> None:
    """Not as a repost, not in another worker, not after it was served long ago; a younger post does."""
    claims = MemoryClaims()
    day_ms = 24 * HOUR_MS
    patient = {"age.max_age_h": 24 * 30.0}
    events = [a_follow(20, 10), a_follow(20, 11), *posts_by(11, 1, hours_ago=3)]
    assert ids(a_world(events, claims=claims, params=patient).page(request_id="a")) == ["1"]
    reposted = posts_by(10, 2, kind="repost", parent_id=1, parent_author_id=11)
    later = a_world([*events, *reposted, *posts_by(10, 3)], claims=claims, params=patient, now_ms=NOW_MS + 6 * day_ms)
    assert ids(later.page(request_id="b")) == ["3"]
    later.clock.advance_ms(day_ms + 1)
    assert len(later.page(request_id="c").posts) == 1  # the seen window is over


def test_a_full_set_raises_the_floor_and_older_posts_never_come_again(a_world: World) -> None:
    claims = MemoryClaims()
    world = a_world([a_follow(20, 10), a_follow(20, 11), *posts_by(10, 1, hours_ago=2)], claims=claims)
    old = np.arange(1, 1_001, dtype=np.int64)
    viewer_id = world.state.hasher.one(IdKind.USER, "20")
    hour_ago = np.full(1_000, NOW_MS - HOUR_MS)
    claims.claim(viewer_id, old, hour_ago, owner="x", now_ms=NOW_MS - 1, ttl_ms=HOUR_MS, max_claims=999)
    repost_of_old = posts_by(11, 3, kind="repost", parent_id=1, parent_author_id=10)
    world.hear([*repost_of_old, *posts_by(11, 2, hours_ago=0.5)])
    page, result = world.page_with_result(request_id="b")
    assert ids(page) == ["2"]
    assert result.n_dropped_by_name() == {"floor": 2}


def test_a_page_is_full_after_one_refill_however_many_posts_others_claimed_meanwhile(a_world: World) -> None:
    class OthersAreFaster(MemoryClaims):
        has_run = False

        def claim(self, viewer_id: int, content_ids: Any, created_ms: Any, **more: Any) -> Any:
            if not self.has_run:  # another worker makes many pages between our look at the claims and our own
                self.has_run = True
                ids = np.array([world.post_id(author + 1_000) for author in range(100, 180)], dtype=np.int64)
                super().claim(viewer_id, ids, np.full(80, NOW_MS), **{**more, "owner": "others"})
            return super().claim(viewer_id, content_ids, created_ms, **more)

    world = a_world(many_authors(100), claims=OthersAreFaster())
    page, result = world.page_with_result(limit=10)
    assert len(page.posts) == 10
    assert result.report.n_refills == 1
    assert result.n_dropped_by_name() == {"claims": 80}


def test_what_leaves_a_page_while_it_is_refilled_is_not_lost(a_world: World) -> None:
    """The cap of three posts an author is applied anew each round; what is passed over then was never sent."""

    class OthersTookTheFirst(MemoryClaims):
        n_calls = 0

        def claim(self, viewer_id: int, content_ids: Any, created_ms: Any, **more: Any) -> Any:
            self.n_calls += 1
            if self.n_calls == 1:
                super().claim(viewer_id, content_ids[:1], created_ms[:1], **{**more, "owner": "another"})
            return super().claim(viewer_id, content_ids, created_ms, **more)

    claims = OthersTookTheFirst()
    world = a_world(many_authors(20), claims=claims)
    page = world.page(request_id="a", limit=5)
    viewer_id = world.state.hasher.one(IdKind.USER, "20")
    held = set(claims.claimed(viewer_id, NOW_MS).content_ids.tolist())
    assert len(page.posts) == 5
    assert len(held) == 6
    assert {world.post_id(p) for p in ids(page)} < held


def test_a_request_that_fails_gives_its_claims_back(a_world: World) -> None:
    class GrantsThenBreaks(MemoryClaims):
        is_broken = True

        def claim(self, *args: Any, **kwargs: Any) -> Any:
            granted = super().claim(*args, **kwargs)
            if self.is_broken:
                raise RuntimeError("the answer was lost")
            return granted

    claims = GrantsThenBreaks()
    world = a_world(many_authors(5), claims=claims)
    with pytest.raises(RuntimeError, match="the answer was lost"):
        world.page(request_id="a")
    claims.is_broken = False
    assert len(world.page(request_id="b").posts) == 5


def test_a_request_that_is_cancelled_gives_its_claims_back_even_those_still_under_way(a_world: World) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class SlowClaims(MemoryClaims):
        def claim(self, *args: Any, **kwargs: Any) -> Any:
            begun.set()
            assert go_on.wait(60)
            return super().claim(*args, **kwargs)

    world = a_world(many_authors(5), claims=SlowClaims())

    async def run() -> FeedResponse:
        first = asyncio.create_task(world.service.home(FeedRequest(viewer_id="20", request_id="a")))
        assert await asyncio.to_thread(begun.wait, 60)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        return await world.service.home(FeedRequest(viewer_id="20", request_id="b"))

    assert len(asyncio.run(run()).posts) == 5


def test_a_page_that_could_not_be_built_gives_its_claims_back(a_world: World) -> None:
    world = a_world(many_authors(5))
    home = world.service._home
    world.service._home = dataclasses.replace(home, responses=Broken())
    with pytest.raises(OSError, match="down"):
        world.page(request_id="a")
    world.service._home = home
    assert len(world.page(request_id="b").posts) == 5


def test_few_pages_are_made_at_a_time_so_that_folding_gets_its_turns(a_world: World) -> None:
    world = a_world(many_authors(5), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000, max_concurrent=2))
    inside: list[int] = []
    n_inside = 0
    read = world.service._gate.read

    class Gate:
        @asynccontextmanager
        async def read(self) -> Any:
            nonlocal n_inside
            n_inside += 1
            inside.append(n_inside)
            async with read() as reading:
                yield reading
            n_inside -= 1

    world.service._gate = Gate()

    async def run() -> None:
        requests = [FeedRequest(viewer_id=str(v), request_id=f"r{v}") for v in range(20, 28)]
        await asyncio.gather(*map(world.service.home, requests))

    asyncio.run(run())
    assert len(inside) == 8
    assert max(inside) == 2


def test_claims_that_hang_hold_the_state_for_a_quarter_of_a_second_at_most() -> None:
    assert HomeConfig().claim_timeout_ms <= 250
