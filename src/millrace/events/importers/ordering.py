"""Rows in the order of their times, from files that do not keep it, in bounded memory.

The log is folded in the order in which events come, and old things are forgotten as its time advances: events must
come in order. A file that is in order is read straight through. One that is not is read as many times as it takes,
each time for the next slice of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Final, TypeVar

from millrace.events.importers.report import ImportReport

MAX_HELD: Final = 100_000
"""How many rows one slice of time is meant to hold."""

_MAX_SAMPLE: Final = 65_536

ItemT = TypeVar("ItemT")


class TimeSurvey:
    """What a first pass over timed rows finds out.

    Attributes
    ----------
    n
        Rows.
    first_ms, last_ms
        Their earliest and latest time; 0 while there are none.
    is_sorted
        Whether no row was earlier than the one before it.
    report
        Rows of the first pass, and the unreadable ones among them.
    """

    def __init__(self) -> None:
        self.n = self.first_ms = self.last_ms = 0
        self.is_sorted = True
        self.report = ImportReport()
        self._sample: list[int] = []
        self._stride = 1
        self._previous_ms = 0

    def add(self, time_ms: int) -> None:
        """Take in the time of the next row."""
        if self.n == 0:
            self.first_ms = self.last_ms = time_ms
        elif time_ms < self._previous_ms:
            self.is_sorted = False
        self.first_ms = min(self.first_ms, time_ms)
        self.last_ms = max(self.last_ms, time_ms)
        self._previous_ms = time_ms
        if self.n % self._stride == 0:
            self._sample.append(time_ms)
            if len(self._sample) == _MAX_SAMPLE:
                # Every other one goes: the sample stays an even one and its size bounded.
                del self._sample[1::2]
                self._stride *= 2
        self.n += 1

    def slice_ends(self, max_held: int = MAX_HELD) -> list[int]:
        """Return the last time of each slice of about ``max_held`` rows, ascending; rows of one time stay together."""
        n_slices = -(-self.n // max_held)
        ordered = sorted(self._sample)
        ends = {ordered[len(ordered) * number // n_slices - 1] for number in range(1, n_slices)}
        return sorted({*ends, self.last_ms}) if self.n else []


def in_time_order(
    read: Callable[[], Iterator[tuple[int, ItemT]]], survey: TimeSurvey, *, max_held: int = MAX_HELD
) -> Iterator[tuple[int, ItemT]]:
    """Yield ``(time_ms, item)`` in order of time, equal times in the order in which they are read.

    Parameters
    ----------
    read
        Begins the reading anew; must give the same rows every time.
    survey
        Of the same rows.
    max_held
        How many are held at once, unless more have one and the same time.
    """
    if survey.is_sorted:
        yield from read()
        return
    low_ms = survey.first_ms - 1
    for high_ms in survey.slice_ends(max_held):
        held = [(time_ms, item) for time_ms, item in read() if low_ms < time_ms <= high_ms]
        held.sort(key=itemgetter(0))
        yield from held
        low_ms = high_ms
