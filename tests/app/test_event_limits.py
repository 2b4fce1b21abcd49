"""Events over a limit: refused as a whole, with the time to come back."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.app.access import Caller
from millrace.app.config import LimitsConfig
from millrace.app.event_limits import EventLimits
from millrace.base.clock import ManualClock
from millrace.base.errors import StoreError, TooManyError
from millrace.stores.claims import MemoryClaims
from millrace.testing.told_clock import ToldClock

VIC, KEY = Caller("viewer", "vic"), Caller("ingest", "app")
CONFIG = LimitsConfig(viewer_events_per_s=10, viewer_burst=5, producer_events_per_s=0)


def test_a_viewer_has_a_burst_and_then_waits() -> None:
    clock = ManualClock(0)
    limits = EventLimits(CONFIG, MemoryClaims(), clock)
    limits.spend(VIC, 5)
    with pytest.raises(TooManyError, match=r"more than 10 a second on average .* again in 1 s") as refused:
        limits.spend(VIC, 3)
    assert refused.value.retry_after_s == 0.3
    limits.spend(Caller("viewer", "bob"), 5)
    clock.advance_ms(300)
    limits.spend(VIC, 3)


def test_what_never_fits_is_told_so() -> None:
    with pytest.raises(TooManyError, match="send at most 5 at once"):
        EventLimits(CONFIG, MemoryClaims(), ManualClock(0)).spend(VIC, 6)


def test_zero_is_no_limit() -> None:
    limits = EventLimits(CONFIG, MemoryClaims(), ManualClock(0))
    for _ in range(3):
        limits.spend(KEY, 1_000_000)


class Away(MemoryClaims):
    """A store that does not answer, or does again."""

    is_away = True
    n_asked = 0

    def spend(self, *args: Any, **named: Any) -> int:
        self.n_asked += 1
        if self.is_away:
            raise StoreError("claims server", problem="does not answer", remedy="start it")
        return super().spend(*args, **named)


def test_events_are_worth_more_than_their_even_flow() -> None:
    EventLimits(CONFIG, Away(), ManualClock(0)).spend(VIC, 5)


def test_a_store_that_does_not_answer_is_left_alone_longer_and_longer() -> None:
    clock, claims = ToldClock(), Away()
    limits = EventLimits(CONFIG, claims, clock)
    asked = []
    for _ in range(4):
        limits.spend(VIC, 5)
        asked.append(claims.n_asked)
        clock.s += 0.5
    assert asked == [1, 2, 2, 3]  # after half a second, and then after one
    claims.is_away = False
    clock.s += 2.0
    limits.spend(VIC, 5)
    with pytest.raises(TooManyError):
        limits.spend(VIC, 5)


def test_over_http_it_is_429_and_nothing_is_taken_in(make_service: Any) -> None:
    service = make_service("tokens", more="[limits]\nviewer_events_per_s = 0.01\nviewer_burst = 2\n")
    look = {"type": "Impression", "viewer_id": "vic", "post_id": "p"}
    assert service.send("vic", look, look).status_code == 200
    end = service.log.end()
    answer = service.send("vic", look)
    assert answer.status_code == 429
    assert 90 <= int(answer.headers["retry-after"]) <= 100
    assert "viewer 'vic'" in answer.json()["error"]["message"]
    assert service.log.end() == end
    assert service.send("ingest", look).status_code == 200


def test_over_http_nothing_is_looked_up_for_who_sends_too_many_edits(make_service: Any) -> None:
    # Its state does not follow the log: a look-up of authors is answered with 503.
    service = make_service("tokens", follows=False, more="[limits]\nviewer_events_per_s = 0.01\nviewer_burst = 2\n")
    edit = {"type": "PostEdited", "post_id": "p", "text": "new"}
    assert service.send("vic", edit, edit, edit).status_code == 429
    assert service.send("vic", edit).status_code == 503  # spent one
    assert service.send("vic", edit).status_code == 503  # and the other
    assert service.send("vic", edit).status_code == 429


def test_over_http_a_batch_with_edits_is_spent_for_once(make_service: Any) -> None:
    service = make_service("tokens", more="[limits]\nviewer_events_per_s = 0.01\nviewer_burst = 4\n")
    edit = {"type": "PostEdited", "post_id": "p", "text": "new"}
    assert service.send("vic", edit, edit).status_code == 422  # of a post that nobody knows
    assert service.send("vic", edit, edit).status_code == 422
    assert service.send("vic", edit).status_code == 429


def test_over_http_a_client_says_what_its_clock_shows(make_service: Any) -> None:
    service = make_service("development")
    headers = {"X-Millrace-Sent": "1000000"}
    body = b'{"event_time_ms": 940000, "payload": {"type": "Impression", "viewer_id": "v", "post_id": "p"}}'
    assert service.client.post("/api/v1/events", content=body, headers=headers).json()["n_accepted"] == 1
    (data,) = service.log.subscribe("look", topics=["events.impression"]).poll(9).data
    assert service.codec.decode(data).event_time_ms > 1_700_000_000_000
    wrong = service.client.post("/api/v1/events", content=body, headers={"X-Millrace-Sent": "noon"})
    assert wrong.status_code == 400
    assert "X-Millrace-Sent" in wrong.json()["error"]["message"]
