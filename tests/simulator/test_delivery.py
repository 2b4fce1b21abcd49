from __future__ import annotations

from collections import Counter

import pytest

from millrace.events.content_events import PostDeleted
from millrace.events.envelope import AnyEvent, Event
from millrace.events.feed_events import Engagement, Impression
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.delivery import Delivery
from millrace.simulator.draws import Draws

N = 4_000
START_MS = 1_000 * HOUR_MS


def an_event(number: int, time_ms: int = START_MS) -> AnyEvent:
    payload = (
        Impression(viewer_id="u1", post_id="p1", dwell_ms=1, position=0),
        Engagement(viewer_id="u1", post_id="p1", action="like"),
        PostDeleted(post_id="p1", reason="by its author"),
    )[number % 3]
    return Event(event_id=f"w-x-{number}", event_time_ms=time_ms, source="demo-world", payload=payload)


def a_delivery(late: float = 0.0, twice: float = 0.0, lost: float = 0.0) -> Delivery:
    return Delivery(WorldConfig(late_frac=late, twice_frac=twice, lost_frac=lost), Draws(1))


def ids(events: list[AnyEvent]) -> list[str]:
    return [event.event_id for event in events]


def is_feedback(event: AnyEvent) -> bool:
    return not isinstance(event.payload, PostDeleted)


def test_where_nothing_goes_wrong_everything_arrives_at_its_time_in_order() -> None:
    delivery = a_delivery()
    events = [an_event(i, START_MS + 10 * i) for i in range(9)]
    assert delivery.take(reversed(events), START_MS + 50) == events[:5]
    assert delivery.take([], START_MS + 80) == events[5:8]
    assert delivery.take([], START_MS + 81) == events[8:]
    assert delivery.under_way == []


def test_events_of_one_time_keep_their_order() -> None:
    events = [an_event(i) for i in (5, 3, 4, 1)]
    assert a_delivery().take(events, START_MS + 1) == events


def test_everything_arrives_once_but_for_what_is_lost_or_sent_twice_and_that_is_feedback() -> None:
    delivery = a_delivery(late=0.2, twice=0.1, lost=0.05)
    events = [an_event(i) for i in range(N)]
    arrived = delivery.take(events, START_MS + 7 * HOUR_MS)
    assert delivery.under_way == []
    counts = Counter(ids(arrived))
    times = [counts[event.event_id] for event in events]
    by_kind = Counter((is_feedback(event), n) for event, n in zip(events, times, strict=True))
    n_feedback = sum(is_feedback(event) for event in events)
    assert set(by_kind) == {(True, 0), (True, 1), (True, 2), (False, 1)}
    assert by_kind[True, 0] / n_feedback == pytest.approx(0.05, abs=0.015)
    assert by_kind[True, 2] / n_feedback == pytest.approx(0.1, abs=0.02)
    # What comes twice is the same event to the byte: a server can tell.
    assert {event.event_id: event for event in events} | {e.event_id: e for e in arrived} == {
        event.event_id: event for event in events
    }


def test_what_is_late_comes_seconds_to_hours_late_with_the_time_at_which_it_happened() -> None:
    delivery = a_delivery(late=0.3)
    events = [an_event(i) for i in range(N)]
    at_once = delivery.take(events, START_MS + 1)
    waiting = sorted(arrives_ms - START_MS for arrives_ms, _ in delivery.under_way)
    assert len(at_once) + len(waiting) == N
    assert all(is_feedback(event) for _, event in delivery.under_way)
    assert waiting[0] < 60_000
    assert waiting[len(waiting) // 2] == pytest.approx(10 * 60_000, rel=0.2)
    assert 3 * HOUR_MS < waiting[-1] <= 6 * HOUR_MS
    late = delivery.take([], START_MS + 7 * HOUR_MS)
    assert {event.event_time_ms for event in late} == {START_MS}


def test_what_is_lost_or_late_hangs_on_the_event_and_not_on_its_company() -> None:
    events = [an_event(i) for i in range(300)]
    together = a_delivery(late=0.2, twice=0.1, lost=0.2)
    alone = a_delivery(late=0.2, twice=0.1, lost=0.2)
    arrived = ids(together.take(events, START_MS + HOUR_MS))
    for event in events:
        alone.take([event], START_MS)
    assert sorted(ids(alone.take([], START_MS + HOUR_MS))) == sorted(arrived)
