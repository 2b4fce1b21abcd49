from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.stores.watermark import (
    MIN_EVENTS_PER_TICK,
    N_WITNESSES,
    TICK_MS,
    Watermark,
    advance_kernel,
    advance_reference,
)

NOW_MS = 1_800_000_000_000


def test_is_zero_until_sixteen_events_were_seen() -> None:
    watermark = Watermark()
    watermark.advance(np.full(N_WITNESSES - 1, NOW_MS))
    assert watermark.now_ms == 0
    watermark.advance(np.array([NOW_MS]))
    assert watermark.now_ms == NOW_MS


def test_fifteen_events_from_the_far_future_cannot_drag_it() -> None:
    watermark = Watermark()
    watermark.advance(np.full(N_WITNESSES, NOW_MS))
    watermark.advance(np.full(N_WITNESSES - 1, NOW_MS * 2))
    assert watermark.now_ms == NOW_MS


def test_late_events_never_move_it_back() -> None:
    watermark = Watermark()
    watermark.advance(np.full(N_WITNESSES, NOW_MS))
    watermark.advance(np.full(1000, 5))
    assert watermark.now_ms == NOW_MS


def test_ticks_right_after_the_event_that_enters_a_new_minute() -> None:
    watermark = Watermark()
    first = np.full(MIN_EVENTS_PER_TICK, NOW_MS)
    assert watermark.advance(first).tolist() == [[MIN_EVENTS_PER_TICK - 1, NOW_MS]]
    later = NOW_MS + TICK_MS
    times = np.concatenate([np.full(MIN_EVENTS_PER_TICK, NOW_MS), np.full(N_WITNESSES, later)])
    assert watermark.advance(times).tolist() == [[MIN_EVENTS_PER_TICK + N_WITNESSES - 1, later]]


def test_ticks_are_apart_by_some_events_however_fast_time_runs() -> None:
    times = NOW_MS + np.arange(10 * MIN_EVENTS_PER_TICK) * TICK_MS
    assert len(Watermark().advance(times)) == 10


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=300), st.lists(st.integers(1, 50), max_size=20))
def test_kernel_agrees_with_reference_however_batches_are_cut(minutes: list[int], cuts: list[int]) -> None:
    times = np.array(minutes, dtype=np.int64) * (TICK_MS // 2)
    expected = (np.zeros(N_WITNESSES, np.int64), np.zeros(2, np.int64))
    ticks = np.empty((len(times), 2), np.int64)
    n_ticks = advance_reference(*expected, times, ticks)
    got = (np.zeros(N_WITNESSES, np.int64), np.zeros(2, np.int64))
    found: list[list[int]] = []
    start = 0
    for stop in [*np.cumsum(cuts).tolist(), len(times)]:
        part = times[start:stop]
        part_ticks = np.empty((len(part), 2), np.int64)
        n = advance_kernel(*got, part, part_ticks)
        found += [[int(row) + start, int(at)] for row, at in part_ticks[:n]]
        start = max(start, min(stop, len(times)))
    assert found == ticks[:n_ticks].tolist()
    assert [a.tolist() for a in got] == [a.tolist() for a in expected]


def test_goes_on_from_its_arrays() -> None:
    watermark, other = Watermark(), Watermark()
    watermark.advance(np.full(20, NOW_MS))
    other.load({name: array.copy() for name, array in watermark.arrays().items()})
    assert other.now_ms == NOW_MS
    more = NOW_MS + np.arange(200) * 1000
    assert watermark.advance(more).tolist() == other.advance(more).tolist()
