"""`ToldClock`: real time as a test tells it, for what waits by the machine's clock."""

from __future__ import annotations


class ToldClock:
    """A clock whose monotonic time is ``s``, moved by whoever holds it; event time stands still.

    Attributes
    ----------
    s
        Monotonic seconds.
    """

    def __init__(self, s: float = 100.0, now_ms: int = 0) -> None:
        self.s = s
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the event time."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Return ``s``."""
        return self.s
