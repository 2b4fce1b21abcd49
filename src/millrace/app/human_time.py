"""Moments as people say them, for the terminal, the console and what both are told."""

from __future__ import annotations

from datetime import UTC, datetime


def clock_time(time_ms: int) -> str:
    """Return a moment as a person says it: ``"Mon 5 Jan, 09:05 UTC"``."""
    moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return f"{moment:%a} {moment.day} {moment:%b, %H:%M} UTC"


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
