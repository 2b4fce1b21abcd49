"""Clocks: event time may be virtual, monotonic time is real."""

from __future__ import annotations

from millrace.base.clock import ManualClock, SystemClock, VirtualClock


def test_manual_event_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(1_000)
    assert clock.now_ms() == 1_000
    clock.advance_ms(500)
    assert clock.now_ms() == 1_500
    clock.set_ms(7)
    assert clock.now_ms() == 7


def test_monotonic_time_is_real_on_every_clock() -> None:
    for clock in (ManualClock(), SystemClock(), VirtualClock(5), VirtualClock(5).stamps):
        first = clock.monotonic_s()
        assert clock.monotonic_s() >= first


def test_system_event_time_is_in_milliseconds_since_1970() -> None:
    assert 1_600_000_000_000 < SystemClock().now_ms() < 10_000_000_000_000


def test_virtual_time_goes_by_ticks_and_never_back() -> None:
    clock = VirtualClock()
    clock.tick_to(5_000)
    assert clock.now_ms() == clock.told_ms == clock.stamps.now_ms() == 5_000
    clock.tick_to(4_000)
    assert clock.now_ms() == 5_000
    assert VirtualClock(7_000).now_ms() == 7_000


def test_a_tick_that_is_being_appended_stamps_already_and_moves_nothing_yet() -> None:
    clock = VirtualClock(5_000)
    clock.take(6_000)
    assert (clock.now_ms(), clock.stamps.now_ms()) == (5_000, 6_000)
    clock.tick_to(6_000)
    assert (clock.now_ms(), clock.stamps.now_ms()) == (6_000, 6_000)


def test_before_the_first_tick_virtual_time_is_where_the_log_stands() -> None:
    clock, events_ms = VirtualClock(), 0
    clock.follow(lambda: events_ms)
    assert clock.told_ms == 0
    assert clock.now_ms() > 1_600_000_000_000, "nothing is known: the machine's time"
    events_ms = 9_000
    assert clock.now_ms() == clock.told_ms == 9_000
    assert clock.stamps.now_ms() > 1_600_000_000_000, "a history that is taken in is not brought back to its own middle"
    clock.tick_to(9_500)
    events_ms = 99_000
    assert clock.now_ms() == clock.stamps.now_ms() == 9_500
