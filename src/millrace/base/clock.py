"""Time is injected: event time may be virtual, monotonic time is always real.

Event time decides what a feed is about: ages, windows, decay. Monotonic time decides how long something may
take: deadlines, limits, token expiry. A simulation moves the first and never the second.
"""

from __future__ import annotations

import time
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
