"""What a door can tell of traffic that no person causes."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from millrace.events.envelope import AnyEvent, Event
from millrace.events.feed_events import Engagement, Impression
from millrace.stream.traffic import TrafficConfig, TrafficWatch

NOW_MS = 1_800_000_000_000


def likes(n: int, *, every_ms: int = 0, post: str = "p{}", viewer: str = "v") -> list[AnyEvent]:
    return [
        Event(
            event_id=f"{viewer}-{post}-{i}-{every_ms}",
            event_time_ms=NOW_MS + i * every_ms,
            source="web",
            payload=Engagement(viewer_id=viewer, post_id=post.format(i), action="like"),
        )
        for i in range(n)
    ]


def looks(n: int, dwell_ms: int, *, every_ms: int = 0) -> list[AnyEvent]:
    return [
        Event(
            event_id=f"look-{i}",
            event_time_ms=NOW_MS + i * every_ms,
            source="web",
            payload=Impression(viewer_id="v", post_id=f"p{i}", dwell_ms=dwell_ms),
        )
        for i in range(n)
    ]


def found(events: list[AnyEvent], watch: TrafficWatch | None = None, off_by_ms: int = 0) -> dict[str, int]:
    received_ms = max(event.event_time_ms for event in events)
    flags = (watch or TrafficWatch()).look_at(events, "viewer/v", received_ms=received_ms, off_by_ms=off_by_ms)
    return {flag.reason: len(flag.events) for flag in flags}


def test_more_than_fifty_actions_in_ten_seconds_are_a_burst_from_there_on() -> None:
    assert found(likes(50)) == {}
    assert found(likes(60)) == {"burst": 10}
    assert found(likes(600, every_ms=1_000)) == {}


def test_one_action_under_many_ids_is_a_replay_and_a_batch_sent_again_is_none() -> None:
    watch = TrafficWatch()
    three = likes(3, every_ms=60_000, post="p")
    assert found(three, watch) == {}
    assert found(three, watch) == {}
    assert found(likes(6, every_ms=50_000, post="p")) == {"replay": 3}


def test_nobody_looks_at_ten_posts_all_the_time_or_at_one_for_half_a_day() -> None:
    assert found(looks(100, 60_000, every_ms=10_000)) == {}
    assert found(looks(11, 600_000)) == {"dwell": 1}
    assert found(looks(1, 5 * 3_600_000)) == {"dwell": 1}


def test_a_clock_that_is_days_off_is_flagged() -> None:
    assert found(likes(2), off_by_ms=-3 * 86_400_000) == {"clock": 2}


def test_an_event_from_the_future_does_not_stop_its_viewers_time() -> None:
    watch = TrafficWatch()
    for ahead in (*likes(1, every_ms=1, post="ahead"), *looks(1, 60_000)):
        late = msgspec.structs.replace(ahead, event_id="2286", event_time_ms=9_999_999_999_000)
        assert watch.look_at([late], "c", received_ms=NOW_MS) == []
    honest = (*likes(180, every_ms=60_000), *looks(180, 60_000, every_ms=60_000))
    assert [flag for event in honest if (flag := found([event], watch))] == []


def test_one_viewers_traffic_is_not_anothers() -> None:
    events = [event for i in range(100) for event in likes(1, viewer=f"v{i}")]
    assert found(events) == {}


def test_a_flag_says_who_what_and_by_how_much() -> None:
    (flag,) = TrafficWatch().look_at(likes(60), "key/app", received_ms=NOW_MS)
    assert (flag.viewer_id, flag.client, flag.reason, flag.value, flag.limit) == ("v", "key/app", "burst", 6.0, 5.0)
    assert flag.events == tuple(event.event_id for event in likes(60)[50:])


def test_a_flag_names_the_pages_and_the_times_that_it_is_about() -> None:
    events = [
        msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, request_id=f"r{i // 70}"))
        for i, event in enumerate(likes(150, every_ms=1))
    ]
    (flag,) = TrafficWatch().look_at(events, "c", received_ms=NOW_MS + 140)
    assert len(flag.events) == 100
    assert flag.requests == ("r0", "r1", "r2")
    assert (flag.first_ms, flag.last_ms) == (NOW_MS + 50, NOW_MS + 140)  # the last ones said that they were later


def test_more_than_a_thousand_events_take_several_flags() -> None:
    flags = TrafficWatch().look_at(likes(2_100), "c", received_ms=NOW_MS)
    assert [len(flag.events) for flag in flags] == [1_000, 1_000, 50]
    assert len({event for flag in flags for event in flag.events}) == 2_050
    assert {flag.value for flag in flags} == {210.0}


def test_what_no_window_asks_for_any_more_is_forgotten() -> None:
    watch = TrafficWatch()
    watch.look_at(likes(20, viewer="then"), "c", received_ms=NOW_MS)
    later = [msgspec.structs.replace(event, event_time_ms=NOW_MS + 3_600_001) for event in likes(1, viewer="now")]
    watch.look_at(later, "c", received_ms=NOW_MS + 3_600_001)
    assert (list(watch._viewers), len(watch._acts)) == (["now"], 1)


def test_a_home_may_look_away() -> None:
    assert found(likes(500), TrafficWatch(TrafficConfig(is_watched=False))) == {}


@given(st.lists(st.integers(0, 40), max_size=60))
def test_memory_is_bounded_and_the_viewers_of_lately_stay(viewers: list[int]) -> None:
    watch = TrafficWatch(TrafficConfig(max_viewers=8))
    for viewer in viewers:
        watch.look_at(likes(1, viewer=str(viewer)), "x", received_ms=NOW_MS)
    latest = list(dict.fromkeys(str(viewer) for viewer in reversed(viewers)))[:8]
    assert list(reversed(watch._viewers)) == latest
