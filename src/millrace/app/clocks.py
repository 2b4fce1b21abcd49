"""`Clocks`: which clock each figure of the flywheel is told by, for who reads them side by side.

A home in virtual time has two: the world's, which its log moves, and ours. What was served, done, joined and learned
from is told in the world's; what a process did (decided, looked, took back) in ours.
"""

from __future__ import annotations

from typing import Final

import msgspec

from millrace.app.human_time import REAL_TIME, WORLD_TIME, event_time, real_time

EVENT_FIGURES: Final = (
    "hours.from_ms",
    "hours.until_ms",
    "decisions.from_ms",
    "decisions.until_ms",
    "decisions.judged_from_ms",
    "decisions.trusted_from_ms",
    "distillations.from_ms",
    "distillations.until_ms",
    "join.told_ms",
    "join.lag_ms",
    "guards_event_ms",
    "clocks.event_now_ms",
)
REAL_FIGURES: Final = (
    "decisions.at_ms",
    "decisions.seconds",
    "distillations.at_ms",
    "taken_back.at_ms",
    "guards_told_ms",
    "clocks.real_now_ms",
)


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """The clocks of a home, and which of them each figure of `FlywheelStatus` is told by.

    Attributes
    ----------
    is_virtual
        Whether event time is the world's own; else there is one clock only.
    event_now_ms, real_now_ms
        What they show.
    words
        Both in a line; empty where there is one clock.
    by_figure
        ``"world time"`` or ``"real time"`` by the figure's place: ``"decisions.until_ms"``.
    """

    is_virtual: bool
    event_now_ms: int
    real_now_ms: int
    words: str
    by_figure: dict[str, str]

    def event(self, time_ms: int) -> str:
        """Return a moment of event time, for people."""
        return event_time(time_ms, is_virtual=self.is_virtual)

    def real(self, time_ms: int) -> str:
        """Return a moment of real time, for people."""
        return real_time(time_ms, is_virtual=self.is_virtual)


def clocks_of(*, is_virtual: bool, event_now_ms: int, real_now_ms: int) -> Clocks:
    """Return the clocks of a home as of now."""
    words = ""
    if is_virtual:
        words = (
            f"two clocks: it is {event_time(event_now_ms, is_virtual=True)} in the home's world and "
            f"{real_time(real_now_ms, is_virtual=True)} here"
        )
    event_words = WORLD_TIME if is_virtual else REAL_TIME
    return Clocks(
        is_virtual=is_virtual,
        event_now_ms=event_now_ms,
        real_now_ms=real_now_ms,
        words=words,
        by_figure={**dict.fromkeys(EVENT_FIGURES, event_words), **dict.fromkeys(REAL_FIGURES, REAL_TIME)},
    )
