"""Events of clients whose clocks are off, by our time."""

from __future__ import annotations

import pytest

from millrace.base.errors import SchemaError
from millrace.events.envelope import Event, Payload
from millrace.events.feed_events import ClockTick, Impression
from millrace.stream.client_clock import ClientClock, sent_ms_of

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


def at(time_ms: int, payload: Payload | None = None) -> Event[Payload]:
    payload = payload or Impression(viewer_id="v", post_id="p")
    return Event(event_id="e", event_time_ms=time_ms, source="web", payload=payload)


@pytest.mark.parametrize("off_by_ms", [HOUR_MS, -HOUR_MS, 365 * 24 * HOUR_MS])
def test_what_happened_a_minute_before_sending_happened_a_minute_before_arrival(off_by_ms: int) -> None:
    clock = ClientClock(NOW_MS, sent_ms=NOW_MS + off_by_ms)
    event = at(NOW_MS + off_by_ms - 60_000)
    assert clock.off_by_ms == off_by_ms
    assert clock.corrected(event).event_time_ms == NOW_MS - 60_000


def test_the_way_through_the_network_moves_nothing() -> None:
    clock = ClientClock(NOW_MS, sent_ms=NOW_MS - 1_999)
    event = at(NOW_MS - 5_000)
    assert clock.off_by_ms == 0
    assert clock.corrected(event) is event


def test_a_client_that_does_not_say_is_believed() -> None:
    event = at(NOW_MS + HOUR_MS)
    assert ClientClock(NOW_MS).corrected(event) is event


def test_nothing_mended_is_later_than_its_arrival_or_before_all_time() -> None:
    clock = ClientClock(NOW_MS, sent_ms=NOW_MS + HOUR_MS)
    assert clock.corrected(at(NOW_MS + 3 * HOUR_MS)).event_time_ms == NOW_MS
    assert clock.corrected(at(5)).event_time_ms == 0


def test_a_tick_is_time_itself() -> None:
    event = at(NOW_MS, ClockTick(now_ms=NOW_MS))
    assert ClientClock(NOW_MS, sent_ms=NOW_MS + HOUR_MS).corrected(event) is event


def test_the_header_is_a_time_or_absent() -> None:
    assert sent_ms_of(None) is None
    assert sent_ms_of("1800000000000") == NOW_MS
    for text in ("", "soon", "-1", "1.5", "٣", "9" * 20, "9" * 5_000):
        with pytest.raises(SchemaError, match="epoch milliseconds"):
            sent_ms_of(text)
