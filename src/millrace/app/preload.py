"""Making forks cheap: before the supervisor forks, it imports what its children need and runs it once.

Children then begin with all modules imported and all compiled kernels loaded, in memory that they share. What is
run is a feed in miniature, in memory only: a few events through the door, a few pages. Afterwards nothing of it is
left, no thread runs and no file is open.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from millrace.app import wiring
from millrace.app.settings import Settings
from millrace.base.clock import ManualClock
from millrace.events.content_events import (
    CountsObserved,
    LabelChanged,
    Media,
    PostAnnotated,
    PostCreated,
    PostDeleted,
    PostEdited,
)
from millrace.events.envelope import AnyEvent, Event, Payload
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import (
    BlockChanged,
    FollowChanged,
    MuteChanged,
    ProfileUpdated,
    Search,
    UserErased,
)
from millrace.mixer.feed import FeedRequest

_MODULES: Final = (
    "millrace.app.feed_app",
    "millrace.app.keeper",
    "millrace.app.worker",
    "millrace.stream.sqlite_log",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)
_NOW_MS: Final = 1_700_000_000_000
_HOUR_MS: Final = 3_600_000
_N_USERS: Final = 8


def preload(settings: Settings) -> None:
    """Import the modules of workers and keeper, and run a feed in miniature.

    Parameters
    ----------
    settings
        The home; its files are not touched.
    """
    for name in _MODULES:
        importlib.import_module(name)
    from millrace.stores.claims import MemoryClaims
    from millrace.stream.memory_log import MemoryLog

    clock = ManualClock(_NOW_MS)
    log = MemoryLog(clock)
    collector = wiring.build_collector(settings, log, wiring.build_codec(settings), clock)
    nowhere = Settings(Path("/nonexistent"), settings.config)
    replica = wiring.build_replica(nowhere, log, clock=clock)
    for event in _events():
        collector.submit([event])
    collector.submit_json([b'{"payload": {}}', b"{"], "preload")
    replica.catch_up()
    clock.advance_ms(_HOUR_MS)
    service = wiring.build_feed_service(nowhere, replica, claims=MemoryClaims(), clock=clock)

    async def pages() -> None:
        for number in range(_N_USERS):
            await service.home(FeedRequest(viewer_id=f"u{number}", request_id=f"preload-{number}", debug=True))
        await service.drain()

    asyncio.run(pages())
    replica.arrays()
    replica.close()
    log.close()


def _events() -> Iterator[AnyEvent]:
    for number, payload in enumerate(_payloads()):
        yield Event(
            event_id=f"preload-{number}",
            event_time_ms=_NOW_MS - _HOUR_MS + number * 1_000,
            source="preload",
            payload=payload,
        )


def _payloads() -> Iterator[Payload]:
    """Yield at least one payload of every type that changes state, most of them more than once."""
    users = [f"u{number}" for number in range(_N_USERS)]
    for user in users:
        yield ProfileUpdated(user_id=user, name=user, languages=("en",), interests=("mills",))
    for number, user in enumerate(users):
        for step in (1, 2, 3):
            yield FollowChanged(follower_id=user, followee_id=users[(number + step) % _N_USERS])
    yield FollowChanged(follower_id=users[0], followee_id=users[3], is_following=False)
    for number, user in enumerate(users):
        post = f"p{number}"
        media = (Media(kind="video", duration_ms=5_000),) if number % 2 else ()
        yield PostCreated(post_id=post, author_id=user, text="The mill turns.", media=media)
        yield PostAnnotated(post_id=post, producer="preload", language="en", topics=("mills",))
        yield CountsObserved(post_id=post, counts={"like": 2, "impression": 9})
    for number, user in enumerate(users):
        parent = f"p{(number + 1) % _N_USERS}"
        author = users[(number + 1) % _N_USERS]
        for kind in ("reply", "repost", "quote"):
            yield PostCreated(
                post_id=f"{kind}{number}",
                author_id=user,
                kind=kind,
                text="So it does.",
                parent_id=parent,
                parent_author_id=author,
                conversation_id=parent,
            )
        yield Impression(viewer_id=user, post_id=parent, dwell_ms=7_000, duration_ms=5_000)
        yield Engagement(viewer_id=user, post_id=parent, action="like")
        yield Engagement(viewer_id=user, post_id=f"p{(number + 4) % _N_USERS}", action="repost")
    yield Engagement(viewer_id=users[0], post_id="p1", action="like", is_undo=True)
    yield PostEdited(post_id="p2", text="The mill turns again.")
    yield PostDeleted(post_id="p3")
    yield LabelChanged(label="spam", post_id="p4")
    yield BlockChanged(blocker_id=users[1], blocked_id=users[5])
    yield MuteChanged(muter_id=users[1], muted_id=users[6])
    yield MuteChanged(muter_id=users[1], keyword="flood")
    yield Search(user_id=users[1], query="mill")
    yield UserErased(user_id=users[7])
