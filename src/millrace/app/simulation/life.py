"""The life of a demo's world: it goes on in accelerated time before the demo's own server, over HTTP like any client.

It may be killed at any moment. After each slice of virtual time the world is written down together with what it is
about to tell, and told only then; whoever goes on from there tells the same again, and the door drops what it has
already. So neither an event nor a tick is told in two versions, and time never goes back.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import zipfile
from collections.abc import Iterator, Sequence
from typing import Final

from millrace.app import wiring
from millrace.app.demo_world import read_note, state_path, world_of
from millrace.app.feed_client import HttpFeedClient
from millrace.app.http_connection import Connection
from millrace.app.lifeline import Lifeline
from millrace.app.settings import Settings
from millrace.app.simulation.pace import Pace
from millrace.base.errors import StoreError
from millrace.events.envelope import AnyEvent
from millrace.simulator.atlas import Atlas
from millrace.simulator.client import Page, PageRequest
from millrace.simulator.loop import Loop
from millrace.simulator.policies import parse_policy
from millrace.simulator.snapshot import Snapshot, read_snapshot, under_way, write_snapshot
from millrace.simulator.world import World

SLICE_MS: Final = 5 * 60_000
"""People of a slice see the world as it was at its beginning: short, so that what is new is soon seen."""

_PAGE_LIMIT: Final = 20
_MAX_SENT_EVENTS: Final = 100
_STEP_S: Final = 0.5
_PATIENCE_S: Final = 600.0
_NICENESS: Final = 10

logger = logging.getLogger(__name__)


def live(settings: Settings, url: str, speed: float, lifeline: Lifeline) -> None:
    """Let the world of a demo's home go on until the supervisor ends this process, or is gone.

    Parameters
    ----------
    settings
        The home; `millrace.app.demo_world.make_world` made its world.
    url
        Of its server.
    speed
        Virtual seconds per real second, above 0.
    lifeline
        Of this process, a child of the supervisor.
    """
    lifeline.say_ready()
    watch = threading.Thread(target=_end_with, args=(lifeline.parent_fd,), name="lifeline", daemon=True)
    watch.start()
    # There is nothing to put in order before the end, so nobody need wait for it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if lifeline.should_stop():
        return
    os.nice(_NICENESS)
    waiting = Connection(url, _PATIENCE_S)
    waiting.ask("/readyz")
    waiting.close()
    try:
        life = Life(settings, url, Pace(speed))
    except StoreError as error:
        logger.error("the demo's world stands still: %s", error)
        watch.join()  # ending would only have it started again, to the same end
        return
    life.begin()
    while True:
        life.pass_slice()


class Life:
    """A demo's world, taken up where it was left.

    Parameters
    ----------
    settings, url
        The home, and its server, which must be ready.
    pace
        How fast.

    Raises
    ------
    StoreError
        If the world's own state cannot be read.
    FeedClientError
        If the server does not answer, or is on real time.

    Attributes
    ----------
    now_ms
        Where the next slice begins.
    """

    def __init__(self, settings: Settings, url: str, pace: Pace) -> None:
        self._path = state_path(settings)
        self._codec = wiring.build_codec(settings)
        world, snapshot = _restored(settings)
        world.slice_ms = SLICE_MS
        self.now_ms = snapshot.start_ms
        self._n_slices = snapshot.n_slices
        atlas = Atlas(world.narrator, world.people.n_users)
        self._inner = HttpFeedClient(url, self._codec, n_connections=1, timeout_s=_PATIENCE_S)
        self._pace = pace
        self._loop = Loop(world, self, (parse_policy("home"),), atlas=atlas, limit=_PAGE_LIMIT)
        told = [(arrives_ms, self._codec.decode(data)) for arrives_ms, data in snapshot.under_way]
        self._to_tell = [event for arrives_ms, event in told if arrives_ms < self.now_ms]
        self._loop.delivery.under_way = [(arrives_ms, event) for arrives_ms, event in told if arrives_ms >= self.now_ms]

    def begin(self) -> None:
        """Tell what the last slice had to tell: perhaps nobody has heard it, or not all of it."""
        self._tell(self._to_tell)
        self._to_tell = []
        self.advance(self.now_ms)

    def pass_slice(self) -> None:
        """Let a slice of virtual time pass, in its own time."""
        start_ms, self.now_ms = self.now_ms, self.now_ms + SLICE_MS
        self._loop.run_slice(start_ms)

    def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Return a page for each request, one after the other, with rests; for the loop."""
        found: list[Page] = []
        for request in requests:
            with self._pace.resting():
                found += self._inner.pages([request])
        return found

    def send(self, events: Sequence[AnyEvent]) -> None:
        """Write down the world as it is after the slice, and what it has to tell; then tell it. For the loop."""
        self._n_slices += 1
        to_tell = tuple((self.now_ms - 1, self._codec.encode(event)) for event in events)
        snapshot = Snapshot(
            start_ms=self.now_ms,
            log_position=0,  # over HTTP nobody's state is taken up again
            n_slices=self._n_slices,
            under_way=to_tell + under_way(self._loop.delivery, self._codec.encode),
        )
        write_snapshot(self._path, snapshot, self._loop.world)
        self._tell(events)

    def advance(self, now_ms: int) -> None:
        """Let virtual time come to ``now_ms``; it stays where somebody else moved it further. For the loop."""
        self._pace.wait_for(now_ms)
        if now_ms > self._inner.now_ms:
            self._inner.advance(now_ms)

    def close(self) -> None:
        """Let go of the server."""
        self._inner.close()

    def _tell(self, events: Sequence[AnyEvent]) -> None:
        """Send events when their time has come: so virtual time goes in small steps, and no send is a large one."""
        for newest_ms, some in _chunks(events, int(_STEP_S * 1_000 * self._pace.speed)):
            self._pace.wait_for(newest_ms)
            with self._pace.resting():
                self._inner.send(some)


def _chunks(events: Sequence[AnyEvent], step_ms: int) -> Iterator[tuple[int, list[AnyEvent]]]:
    """Yield events in order, in pieces whose times go on by at most ``step_ms``, with the newest time so far."""
    some: list[AnyEvent] = []
    began_ms = newest_ms = 0
    for event in events:
        if some and (len(some) == _MAX_SENT_EVENTS or event.event_time_ms > began_ms + step_ms):
            yield newest_ms, some
            some = []
        newest_ms = max(newest_ms, event.event_time_ms)
        if not some:
            began_ms = newest_ms
        some.append(event)
    if some:
        yield newest_ms, some


def _restored(settings: Settings) -> tuple[World, Snapshot]:
    path = state_path(settings)
    note = read_note(settings)
    if note is None:
        raise StoreError("demo world", value=str(settings.home), problem="is not there", remedy="run `millrace demo`")
    world = world_of(note)
    try:
        return world, read_snapshot(path, world)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(
            "demo world",
            value=str(path),
            problem=f"cannot be read ({type(error).__name__}: {error})",
            remedy="`millrace demo --fresh` makes a new world",
        ) from error


def _end_with(parent_fd: int) -> None:
    select.select([parent_fd], [], [])
    os._exit(0)
