"""Warming up: everything imported and every kernel loaded, before the first child is forked.

A worker that compiled (or just loaded) its kernels at the first request would be late with it, and would hold them
in memory of its own. The supervisor therefore folds a handful of events into a throwaway state and serves pages
from it; its children share what that has loaded. These pages have all the time they need: after a fresh install they
compile every kernel, and a stage that a passed deadline left out would be compiled by somebody's first page instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.app import wiring
from millrace.app.settings import Settings, with_patience
from millrace.base.clock import ManualClock
from millrace.base.ids import IdHasher
from millrace.events.content_events import (
    CountsObserved,
    EditorialPicked,
    LabelChanged,
    PostAnnotated,
    PostCreated,
    PostDeleted,
    PostEdited,
)
from millrace.events.envelope import AnyEvent, Event, Payload
from millrace.events.feed_events import Engagement, Impression, Served, ServedItem
from millrace.events.user_events import BlockChanged, FollowChanged, MuteChanged, ProfileUpdated, UserErased

if TYPE_CHECKING:
    from millrace.mixer.feed_state import FeedState

_NOW_MS = 1_800_000_000_000
_MINUTE_MS = 60_000
_PATIENCE_MS = 3_600_000
"""Compiling everything takes a minute or two; it is never given up."""
_ASKED_ABOUT = ("p1-1", "p2-4", "p3-4", "r1")
_NOWHERE = Path("/nonexistent")


def warm_up(settings: Settings) -> None:
    """Import what serving needs, and load every kernel of folding, of the feed, and of the models that may come."""
    import millrace.app.feed_app
    import millrace.app.keeper_process
    import millrace.app.near_line
    import millrace.app.worker  # noqa: F401
    from millrace.app.model_kernels import load_model_kernels
    from millrace.stores.checkpoint import Checkpoints
    from millrace.stores.claims import MemoryClaims
    from millrace.stores.content_overlay import ContentReader
    from millrace.stores.replica import Replica
    from millrace.stores.sqlite_content import SqliteContentReads
    from millrace.stores.trace_store import NoTraces
    from millrace.stream.collector import Collector
    from millrace.stream.memory_log import MemoryLog

    settings = with_patience(settings, _PATIENCE_MS)
    clock = ManualClock(_NOW_MS)
    codec = wiring.build_codec(settings)
    log = MemoryLog(clock)
    events = rehearsed_events()
    Collector(log, codec, clock).submit(events)
    replica: Replica[FeedState] = Replica(
        log,
        codec.decode,
        lambda: wiring.build_state(settings),
        Checkpoints(_NOWHERE, "", 2),
        clock=clock,
        content=ContentReader(SqliteContentReads(_NOWHERE), IdHasher()),
    )
    replica.catch_up()
    state = replica.state
    for fold in state.folds():
        fold.load({name: array.copy() for name, array in fold.arrays().items()})
    service = wiring.build_feed_service(settings, replica, claims=MemoryClaims(), traces=NoTraces(), clock=clock)

    async def serve() -> None:
        from millrace.mixer.feed import FeedRequest

        for viewer in ("v1", "v2", "nobody"):
            name = f"warm-up-{viewer}"
            page = await service.home(FeedRequest(viewer_id=viewer, request_id=name, correlation_id=name, limit=2))
            await service.home(FeedRequest(viewer_id=viewer, request_id=name + "-2", cursor=page.cursor))
            await service.following(FeedRequest(viewer_id=viewer, request_id=name + "-3"))
            dry_run = FeedRequest(viewer_id=viewer, request_id=name + "-4", is_dry_run=True)
            trace = service.traces.of(await service.execute(dry_run))
            for post in _ASKED_ABOUT:
                await service.explainer.why(trace, post)
        await service.drain()

    asyncio.run(serve())
    load_model_kernels(state, wiring.build_actions(settings))
    _read_features(settings, state)
    _grow_and_forget(state)


def _grow_and_forget(state: FeedState) -> None:
    """Load what comes up only when much is there, or old: requests would wait while a fold, or the door, compiles."""
    from millrace.base.int_table import IntTable
    from millrace.stores.marks import Marks
    from millrace.stream.dedup import load_kernels

    IntTable().grow()
    Marks().grow()
    load_kernels()
    for fold in state.folds():
        for months in range(1, 4):
            fold.tick(_NOW_MS + months * 30 * 1440 * _MINUTE_MS)


def _read_features(settings: Settings, state: FeedState) -> None:
    """Read the feature store, now and of a minute that windows have not reached: what is asked for over HTTP."""
    store = wiring.build_feature_store(settings, state)
    posts, users = state.posts.post_ids(state.posts.live()), state.profiles.user_ids
    for now_ms in (_NOW_MS, _NOW_MS + 1440 * _MINUTE_MS):
        store.posts.read(posts[:8], now_ms)
        store.users.read(users[:2], now_ms)


def rehearsed_events() -> list[AnyEvent]:
    """Return the events of a few people who do whatever can be done."""
    # Three minutes apart at the most, and enough of them that the folds are ticked.
    return [
        Event(
            event_id=f"warm-up-{number}",
            event_time_ms=_NOW_MS - 10 * _MINUTE_MS + number * 1_000,
            source="warm-up",
            payload=payload,
        )
        for number, payload in enumerate(_payloads())
    ]


def _payloads() -> Iterator[Payload]:
    for author in range(1, 5):
        yield ProfileUpdated(
            user_id=f"v{author}", name=f"V{author}", languages=("en",), interests=("mills",), is_verified=True
        )
        for viewer in range(1, 5):
            if viewer != author:
                yield FollowChanged(follower_id=f"v{viewer}", followee_id=f"v{author}")
        for post in range(8):
            yield PostCreated(post_id=f"p{author}-{post}", author_id=f"v{author}", text="a mill on a stream")
            yield PostAnnotated(
                post_id=f"p{author}-{post}", producer="warm-up", language="en", topics=("mills", "water")
            )
    for viewer in range(1, 5):
        for author in range(1, 5):
            post_id = f"p{author}-{viewer}"
            yield Impression(viewer_id=f"v{viewer}", post_id=post_id, dwell_ms=7_000)
            for action in ("like", "reply", "bookmark", "click"):
                yield Engagement(viewer_id=f"v{viewer}", post_id=post_id, action=action)
            yield Engagement(viewer_id=f"v{viewer}", post_id=post_id, action="like", is_undo=True)
    yield PostCreated(post_id="r1", author_id="v2", kind="reply", parent_id="p1-1", parent_author_id="v1")
    yield PostCreated(post_id="r2", author_id="v2", kind="repost", parent_id="p1-2", parent_author_id="v1")
    yield PostEdited(post_id="p1-1", text="a mill by a stream", is_sensitive=True)
    yield PostDeleted(post_id="p1-3")
    yield CountsObserved(post_id="p1-1", counts={"like": 5, "impression": 100})
    yield EditorialPicked(post_id="p3-1")
    yield LabelChanged(label="spam", post_id="p2-1")
    yield BlockChanged(blocker_id="v1", blocked_id="v4")
    yield MuteChanged(muter_id="v1", muted_id="v3")
    for muter in ("v1", "v2"):  # of these two only v2 has a page with posts, in which keywords are looked for
        yield MuteChanged(muter_id=muter, keyword="dull")
    yield Served(
        request_id="warm-up",
        viewer_id="v1",
        pipeline="home",
        items=(ServedItem(post_id="p2-2", author_id="v2", position=0),),
    )
    yield FollowChanged(follower_id="v1", followee_id="v2", is_following=False)
    yield UserErased(user_id="v4")
    for number in range(200):
        yield Impression(viewer_id="v1", post_id=f"p2-{number % 8}", dwell_ms=1_000)
