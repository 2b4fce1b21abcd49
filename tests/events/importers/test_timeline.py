from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.events.feed_events import ClockTick
from millrace.events.importers.options import ImportOptions
from millrace.events.importers.report import ImportReport
from millrace.events.importers.timeline import Teller, TimeMap

NOW_MS = 1_800_000_000_000
SPAN = ImportOptions(now_ms=NOW_MS, span_ms=172_800_000)
PLAIN = ImportOptions(now_ms=NOW_MS)


def test_without_a_span_times_stay_as_they_are() -> None:
    times = TimeMap.of(PLAIN, 5_000, 9_000)
    assert [times.event_time_ms(t) for t in (5_000, 7_777, 9_000)] == [5_000, 7_777, 9_000]


def test_a_span_is_filled_and_the_newest_is_now() -> None:
    times = TimeMap.of(SPAN, 0, 1_000_000_000_000)
    assert times.event_time_ms(1_000_000_000_000) == NOW_MS
    assert times.event_time_ms(0) == NOW_MS - 172_800_000
    assert times.event_time_ms(500_000_000_000) == NOW_MS - 86_400_000


def test_a_single_moment_becomes_now() -> None:
    assert TimeMap.of(SPAN, 7, 7).event_time_ms(7) == NOW_MS


@settings(max_examples=50, deadline=None)
@given(times=st.lists(st.integers(0, 2_000_000_000_000), min_size=1))
def test_compression_keeps_order_and_stays_within_the_span(times: list[int]) -> None:
    mapping = TimeMap.of(SPAN, min(times), max(times))
    mapped = [mapping.event_time_ms(t) for t in sorted(times)]
    assert mapped == sorted(mapped)
    assert mapped[-1] == NOW_MS
    assert mapped[0] >= NOW_MS - 172_800_000


def tick(n: int) -> ClockTick:
    return ClockTick(now_ms=n)


def test_reactions_wait_for_their_time_and_never_come_after_the_import() -> None:
    teller = Teller("importer/x", PLAIN, ImportReport())
    for n in (30, 10, 20, NOW_MS, NOW_MS + 5):
        teller.later(n, tick(n))
    assert [e.payload.now_ms for e in teller.due(20)] == [10, 20]
    assert [e.payload.now_ms for e in teller.rest()] == [30]


def test_when_too_many_wait_the_earliest_is_told_ahead() -> None:
    teller = Teller("importer/x", PLAIN, ImportReport(), max_waiting=2)
    for n in (300, 100, 200, 400):
        teller.later(n, tick(n))
    assert [e.payload.now_ms for e in teller.due(0)] == [100, 200]


def test_event_ids_name_the_row_and_with_a_span_the_moment() -> None:
    report = ImportReport()
    assert Teller("importer/x", PLAIN, report).tell(1, tick(1), "r1").event_id == "x/r1"
    assert Teller("importer/x", SPAN, report).tell(1, tick(1), "r1").event_id == f"x/r1@{NOW_MS}"
    assert report.n_events_by_type == {"ClockTick": 2}
