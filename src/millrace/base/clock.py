"""Time is injected: event time may be virtual, monotonic time is always real.

Event time decides what a feed is about: ages, windows, decay. Monotonic time decides how long something may
take: deadlines, limits, token expiry. A simulation moves the first and never the second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now_ms(self) -> int:
        """Return event time: epoch milliseconds, perhaps virtual."""

    def monotonic_s(self) -> float:
        """Return real seconds from an arbitrary origin, never going back."""


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Return the wall clock in epoch milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.perf_counter()


class ManualClock:
    """Event time that stands still until it is moved; monotonic time stays real.

    Parameters
    ----------
    now_ms
        The event time to begin with, in epoch milliseconds.
    """

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the event time last set."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.perf_counter()

    def set_ms(self, now_ms: int) -> None:
        """Move event time to ``now_ms``."""
        self._now_ms = now_ms

    def advance_ms(self, delta_ms: int) -> None:
        """Move event time forward by ``delta_ms``."""
        self._now_ms += delta_ms


class VirtualClock:
    """Event time as the log tells it: the newest tick that was heard, never going back; monotonic time stays real.

    Before the first tick it is the time that the log's events have come to, or the machine's where there are none.
    One object for all threads of a process.

    Parameters
    ----------
    tick_ms
        The newest tick so far, in epoch milliseconds; 0 if there was none.
    """

    def __init__(self, tick_ms: int = 0) -> None:
        self._tick_ms = tick_ms
        self._taken_ms = tick_ms
        self._events_ms: Callable[[], int] = lambda: 0

    @property
    def told_ms(self) -> int:
        """Event time as far as the log tells it; 0 if it tells nothing yet."""
        return self._tick_ms or self._events_ms()

    @property
    def stamps(self) -> Clock:
        """The clock that stamps appends.

        A stamp bounds the times of events from above. It is the newest tick that was heard or is just being appended,
        so that what stands behind a tick in one append counts at its own time. Before the first tick a history may be
        taken in: it is bounded by real time, as everywhere.
        """
        return _Stamps(self)

    @property
    def stamp_ms(self) -> int:
        """The newest tick, heard or taken; 0 before the first."""
        return max(self._tick_ms, self._taken_ms)

    def now_ms(self) -> int:
        """Return the newest tick; before the first one, what `follow` was given, or else the machine's time."""
        return self.told_ms or time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.perf_counter()

    def tick_to(self, now_ms: int) -> None:
        """Move event time on to ``now_ms``; an older tick changes nothing. For one thread, while all others read."""
        self._tick_ms = max(self._tick_ms, now_ms)

    def take(self, tick_ms: int) -> None:
        """Stamp with a tick that is about to be appended; event time itself waits until it is heard."""
        self._taken_ms = max(self._taken_ms, tick_ms)

    def follow(self, events_ms: Callable[[], int]) -> None:
        """Ask ``events_ms`` how far the log's events have come, until the first tick; 0 is "no event yet"."""
        self._events_ms = events_ms


class _Stamps:
    """Ticks from the first one on, real time before."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def now_ms(self) -> int:
        return self._clock.stamp_ms or time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()
