"""Moments as people say them, for the terminal, the console and what both are told.

A home in virtual time has two clocks: what happened in its world is told in world time, what happened to its processes
in real time, and every moment says which. Elsewhere both are one, and nothing is said.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

WORLD_TIME: Final = "world time"
REAL_TIME: Final = "real time"


def clock_time(time_ms: int) -> str:
    """Return a moment as a person says it: ``"Mon 5 Jan, 09:05 UTC"``."""
    return f"{_moment(time_ms)} UTC"


def event_time(time_ms: int, *, is_virtual: bool) -> str:
    """Return a moment of event time: ``"Mon 5 Jan, 09:05 world time"``; where time is real, `clock_time`."""
    return f"{_moment(time_ms)} {WORLD_TIME}" if is_virtual else clock_time(time_ms)


def real_time(time_ms: int, *, is_virtual: bool) -> str:
    """Return a moment of real time: ``"Mon 5 Jan, 09:05 UTC real time"``; where there is no other, `clock_time`."""
    return f"{clock_time(time_ms)} {REAL_TIME}" if is_virtual else clock_time(time_ms)


def age(delta_ms: int) -> str:
    """Return a duration as a person says it: ``"now"``, ``"5 min"``, ``"3 h"``, ``"2 d"``."""
    minutes = max(delta_ms, 0) // 60_000
    if minutes < 1:
        return "now"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} d"


def ago(delta_ms: int) -> str:
    """Return how long ago something was: ``"just now"``, ``"5 min ago"``."""
    text = age(delta_ms)
    return "just now" if text == "now" else f"{text} ago"


def _moment(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return f"{moment:%a} {moment.day} {moment:%b, %H:%M}"
