"""Served events are appended behind the pages, together, and survive a full disk for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from millrace.app.metrics import Metrics
from millrace.app.served_writer import ServedWriter
from millrace.base.errors import LogFullError
from millrace.events.envelope import AnyEvent, Event
from millrace.events.feed_events import Served
from millrace.stream.collector import LineResult, Receipt


def served(name: str) -> AnyEvent:
    payload = Served(request_id=name, viewer_id="v", pipeline="home")
    return Event(event_id=name, event_time_ms=1, source="server", payload=payload)


class Disk:
    """Takes events unless it is full."""

    def __init__(self, n_refusals: int = 0, error: Exception | None = None, unusable: str = "", bad: str = "") -> None:
        self.batches: list[list[str]] = []
        self.n_refusals = n_refusals
        self.error = error or LogFullError("log", problem="no room", remedy="free some")
        self.unusable = unusable
        self.bad = bad
        self.has_taken = asyncio.Event()

    async def append(self, events: Sequence[AnyEvent]) -> Receipt:
        if self.n_refusals:
            self.n_refusals -= 1
            raise self.error
        names = [event.event_id for event in events]
        if self.unusable in names:
            raise TypeError("cannot be encoded")
        self.batches.append(names)
        self.has_taken.set()
        return Receipt(tuple(LineResult("refused" if n == self.bad else "accepted", n) for n in names), (len(names),))


def run(scene: Any) -> Any:
    return asyncio.run(asyncio.wait_for(scene, timeout=60))


def test_events_of_a_moment_are_appended_together() -> None:
    async def scene() -> list[list[str]]:
        disk = Disk()
        writer = ServedWriter(disk.append, Metrics(), batch_ms=1)
        await writer.start()
        for name in ("a", "b", "c"):
            writer.log(served(name))
        await disk.has_taken.wait()
        await writer.stop()
        return disk.batches

    assert run(scene()) == [["a", "b", "c"]]


def test_what_waits_when_the_server_stops_is_appended() -> None:
    async def scene() -> list[list[str]]:
        disk = Disk()
        writer = ServedWriter(disk.append, Metrics(), batch_ms=1_000)
        await writer.start()
        writer.log(served("a"))
        await writer.stop()
        return disk.batches

    assert run(scene()) == [["a"]]


def test_a_refused_batch_is_tried_again_in_order() -> None:
    async def scene() -> list[list[str]]:
        disk = Disk(n_refusals=1)
        writer = ServedWriter(disk.append, Metrics(), batch_ms=1, retry_s=0.001)
        await writer.start()
        writer.log(served("a"))
        writer.log(served("b"))
        await disk.has_taken.wait()
        await writer.stop()
        return disk.batches

    assert run(scene()) == [["a", "b"]]


def test_what_could_not_be_written_at_the_end_is_counted_as_lost() -> None:
    async def scene() -> str:
        metrics = Metrics()
        writer = ServedWriter(Disk(n_refusals=99).append, metrics, batch_ms=1_000)
        await writer.start()
        writer.log(served("a"))
        await writer.stop()
        return metrics.render().decode()

    assert 'millrace_served_events_total{result="lost"} 1.0' in run(scene())


def test_the_waiting_events_are_bounded() -> None:
    async def scene() -> list[list[str]]:
        disk = Disk()
        writer = ServedWriter(disk.append, Metrics(), batch_ms=1_000, max_waiting=2)
        for name in ("a", "b", "c"):
            writer.log(served(name))
        await writer.stop()
        return disk.batches

    assert run(scene()) == [["b", "c"]]


@pytest.mark.parametrize("error", [OSError(28, "no room"), RuntimeError("surprise")])
def test_whatever_the_log_raises_the_writer_goes_on(error: Exception) -> None:
    async def scene() -> tuple[list[list[str]], str]:
        metrics = Metrics()
        disk = Disk(n_refusals=1, error=error)
        writer = ServedWriter(disk.append, metrics, batch_ms=1, retry_s=0.001)
        await writer.start()
        writer.log(served("a"))
        await disk.has_taken.wait()
        disk.has_taken.clear()
        writer.log(served("b"))
        await disk.has_taken.wait()
        await writer.stop()
        return disk.batches, metrics.render().decode()

    batches, text = run(scene())
    assert batches == [["a"], ["b"]]
    assert 'millrace_served_events_total{result="written"} 2.0' in text
    assert 'result="lost"' not in text
    assert 'millrace_served_events_total{result="retried"} 1.0' in text


def test_an_event_that_can_never_be_written_is_lost_alone_and_counted() -> None:
    async def scene() -> tuple[list[list[str]], str]:
        metrics = Metrics()
        disk = Disk(unusable="b")
        writer = ServedWriter(disk.append, metrics, batch_ms=1_000)
        for name in ("a", "b", "c"):
            writer.log(served(name))
        await writer.stop()
        return disk.batches, metrics.render().decode()

    batches, text = run(scene())
    assert batches == [["a"], ["c"]]
    assert 'millrace_served_events_total{result="lost"} 1.0' in text
    assert 'millrace_served_events_total{result="written"} 2.0' in text


def test_an_event_that_the_door_refused_is_not_counted_as_written() -> None:
    async def scene() -> str:
        metrics = Metrics()
        writer = ServedWriter(Disk(bad="b").append, metrics, batch_ms=1_000)
        for name in ("a", "b"):
            writer.log(served(name))
        await writer.stop()
        return metrics.render().decode()

    text = run(scene())
    assert 'millrace_served_events_total{result="refused"} 1.0' in text
    assert 'millrace_served_events_total{result="written"} 1.0' in text


def test_events_that_come_back_from_a_full_disk_are_bounded_too() -> None:
    async def scene() -> list[list[str]]:
        begun, go_on = asyncio.Event(), asyncio.Event()
        disk = Disk(n_refusals=1)

        async def append(events: Sequence[AnyEvent]) -> Receipt:
            begun.set()
            await go_on.wait()
            return await disk.append(events)

        writer = ServedWriter(append, Metrics(), batch_ms=1, retry_s=0.001, max_waiting=2)
        await writer.start()
        writer.log(served("a"))
        writer.log(served("b"))
        await begun.wait()
        writer.log(served("c"))
        go_on.set()
        await disk.has_taken.wait()
        await writer.stop()
        return disk.batches

    assert run(scene()) == [["b", "c"]]
