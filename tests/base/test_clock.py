"""Clocks: event time may be virtual, monotonic time is real."""

from __future__ import annotations

from millrace.base.clock import ManualClock, SystemClock


def test_manual_event_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(1_000)
    assert clock.now_ms() == 1_000
    clock.advance_ms(500)
    assert clock.now_ms() == 1_500
    clock.set_ms(7)
    assert clock.now_ms() == 7


def test_monotonic_time_is_real_on_both_clocks() -> None:
    for clock in (ManualClock(), SystemClock()):
        first = clock.monotonic_s()
        assert clock.monotonic_s() >= first


def test_system_event_time_is_in_milliseconds_since_1970() -> None:
    assert 1_600_000_000_000 < SystemClock().now_ms() < 10_000_000_000_000
