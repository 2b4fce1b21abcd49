"""The log's watermark: event time that the state trusts, and the moments at which folds tidy up.

The watermark is the 16th-largest effective event time seen so far. One event (or fifteen) from the far future
cannot drag it along, late events never move it back, and it depends on nothing but the records in log order, so
every process and every replay computes the same one. A record that was purged since (an erasure) witnesses no time any
more, but still counts towards the next tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.kernels import njit

N_WITNESSES: Final = 16
"""How many events must have reached a time before it counts."""

TICK_MS: Final = 60_000
"""Folds are ticked when the watermark enters a new minute..."""

MIN_EVENTS_PER_TICK: Final = 1024
"""... and at least this many events came since the last tick. A tick costs time in proportion to the authors there
are; without this, a replay (a day in seconds) or an import (years in seconds) would spend its time on tidying.
Nothing waits for a tick: what has expired by then is only memory, for readers look at times themselves."""


@njit(cache=True)
def advance_kernel(witnesses: Int64Array, counters: Int64Array, times: Int64Array, ticks: Int64Array) -> int:
    """Advance over ``times`` in order; return how many ticks fell due.

    Parameters
    ----------
    witnesses
        Shape (16,), int64, ascending: the largest times so far. Changed in place.
    counters
        Shape (2,), int64: minute of the last tick, events since then. Changed in place.
    times
        Shape (n,), int64: effective event times.
    ticks
        Shape (n, 2), int64: filled with (row after which to tick, watermark).
    """
    n_ticks = 0
    last = len(witnesses) - 1
    for row in range(len(times)):
        time = times[row]
        counters[1] += 1
        if time > witnesses[0]:
            slot = 0
            while slot < last and witnesses[slot + 1] < time:
                witnesses[slot] = witnesses[slot + 1]
                slot += 1
            witnesses[slot] = time
        minute = witnesses[0] // TICK_MS
        if minute > counters[0] and counters[1] >= MIN_EVENTS_PER_TICK:
            counters[0] = minute
            counters[1] = 0
            ticks[n_ticks, 0] = row
            ticks[n_ticks, 1] = witnesses[0]
            n_ticks += 1
    return n_ticks


def advance_reference(witnesses: Int64Array, counters: Int64Array, times: Int64Array, ticks: Int64Array) -> int:
    """Do what `advance_kernel` does, in plain Python."""
    n_ticks = 0
    for row, time in enumerate(times.tolist()):
        witnesses[:] = sorted([*witnesses.tolist(), time])[1:]
        counters[1] += 1
        minute = int(witnesses[0]) // TICK_MS
        if minute > counters[0] and counters[1] >= MIN_EVENTS_PER_TICK:
            counters[:] = (minute, 0)
            ticks[n_ticks] = (row, witnesses[0])
            n_ticks += 1
    return n_ticks


class Watermark:
    """Owner of the watermark's state; part of every checkpoint."""

    name = "watermark"

    def __init__(self) -> None:
        self._witnesses: Int64Array = np.zeros(N_WITNESSES, dtype=np.int64)
        self._counters: Int64Array = np.zeros(2, dtype=np.int64)

    @property
    def now_ms(self) -> int:
        """The watermark in epoch milliseconds; 0 until 16 events have been seen."""
        return int(self._witnesses[0])

    @property
    def events_ms(self) -> int:
        """How far events have come: the watermark, or the newest of fewer than 16 events; 0 before the first."""
        return int(self._witnesses[0]) or int(self._witnesses[-1])

    def advance(self, times: Int64Array) -> Int64Array:
        """Take in effective event times, shape (n,); return the ticks, shape (n_ticks, 2): (row, watermark)."""
        ticks = np.empty((len(times), 2), dtype=np.int64)
        n_ticks = int(advance_kernel(self._witnesses, self._counters, times, ticks))
        return ticks[:n_ticks]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the state for a checkpoint."""
        return {"witnesses": self._witnesses, "counters": self._counters}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._witnesses = arrays["witnesses"]
        self._counters = arrays["counters"]
