"""Moments as people say them, for the terminal, the console and what both are told."""

from __future__ import annotations

from datetime import UTC, datetime


def clock_time(time_ms: int) -> str:
    """Return a moment as a person says it: ``"Mon 5 Jan, 09:05 UTC"``."""
    moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return f"{moment:%a} {moment.day} {moment:%b, %H:%M} UTC"
