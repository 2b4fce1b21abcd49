"""The door's thread: what waits for it is bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from millrace.app.api.problems import status_of
from millrace.app.door import DoorThread
from millrace.base.clock import ManualClock
from millrace.base.errors import LogError
from millrace.events.codec import EventCodec
from millrace.events.registry import EventRegistry
from millrace.stream.checks import Admit
from millrace.stream.collector import Collector, Receipt
from millrace.stream.memory_log import MemoryLog


class HeldCollector(Collector):
    """Takes lines in once it is let go."""

    def __init__(self) -> None:
        clock = ManualClock(1)
        super().__init__(MemoryLog(clock), EventCodec(EventRegistry()), clock)
        self.go_on = threading.Event()

    def submit_json(self, lines: Sequence[bytes], source: str, admit: Admit | None = None, **said: Any) -> Receipt:
        assert self.go_on.wait(60)
        return super().submit_json(lines, source, admit, **said)


def scene(run: Any, **bounds: int) -> Any:
    async def play() -> Any:
        collector = HeldCollector()
        door = DoorThread(collector, **bounds)
        try:
            return await asyncio.wait_for(run(door, collector), timeout=60)
        finally:
            collector.go_on.set()
            door.close()

    return asyncio.run(play())


@pytest.mark.parametrize(
    ("bounds", "line"), [({"max_waiting": 2}, b"{}"), ({"max_waiting_bytes": 25}, b"x" * 10)], ids=["calls", "bytes"]
)
def test_bodies_beyond_the_bound_are_refused_at_once_and_taken_later(bounds: dict[str, int], line: bytes) -> None:
    async def run(door: DoorThread, collector: HeldCollector) -> None:
        waiting = [asyncio.ensure_future(door.submit_json([line])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(LogError, match="again in a moment") as caught:
            await door.submit_json([line])
        assert status_of(caught.value) == 503
        collector.go_on.set()
        await asyncio.gather(*waiting)
        assert len(await door.submit_json([line])) == 1

    scene(run, **bounds)


def test_a_single_body_of_any_size_is_taken_where_nothing_waits() -> None:
    async def run(door: DoorThread, collector: HeldCollector) -> int:
        collector.go_on.set()
        return len(await door.submit_json([b"x" * 100]))

    assert scene(run, max_waiting_bytes=10) == 1


def test_a_cancelled_client_does_not_free_room_that_is_still_taken() -> None:
    async def run(door: DoorThread, collector: HeldCollector) -> None:
        first = asyncio.ensure_future(door.submit_json([b"{}"]))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        if not collector.go_on.is_set():
            with pytest.raises(LogError):
                await door.submit_json([b"{}"])

    scene(run, max_waiting=1)
