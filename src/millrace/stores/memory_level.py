"""`MemoryLevel`: the first level of a cache, in this process: values that are held as they are, bounded in bytes.

What was asked for least recently goes first. A value that is one of many filled at once does not run out with them:
its life is drawn from the last tenth of what is given, so that the loads that follow are spread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

import numpy as np

from millrace.base.clock import Clock

ValueT = TypeVar("ValueT")

ENTRY_BYTES: Final = 250
"""What an entry costs beside key and value: its place in the table, a tuple, two numbers and two objects' heads."""
_JITTER_FRAC: Final = 0.1


class Absent:
    """What stands for "the store has nothing under this key"; see `ABSENT`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
"""The one `Absent`: a negative entry."""


class MemoryLevel(Generic[ValueT]):
    """Keys to values, or to `ABSENT`. Safe to use from several threads.

    Parameters
    ----------
    max_bytes
        The most that keys, values (as they say themselves) and their places may take together.
    clock
        Gives real time.
    rng
        Draws lives.

    Attributes
    ----------
    n_bytes
        What they take now.
    n_evicted
        How many went for want of room.
    """

    def __init__(self, max_bytes: int, clock: Clock, rng: np.random.Generator) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._rng = rng
        self._held: OrderedDict[bytes, tuple[ValueT | Absent, int, float]] = OrderedDict()
        self._lock = threading.Lock()
        self.n_bytes = 0
        self.n_evicted = 0

    def __len__(self) -> int:
        return len(self._held)

    def get_many(self, keys: Sequence[bytes]) -> list[ValueT | Absent | None]:
        """Return what is held, in the keys' order; None where there is nothing or its life is over."""
        now_s = self._clock.monotonic_s()
        found: list[ValueT | Absent | None] = []
        with self._lock:
            held, touch = self._held, self._held.move_to_end
            for key in keys:
                entry = held.get(key)
                if entry is None:
                    found.append(None)
                elif entry[2] <= now_s:
                    self._drop(key)
                    found.append(None)
                else:
                    touch(key)
                    found.append(entry[0])
        return found

    def put_many(self, entries: Iterable[tuple[bytes, ValueT | Absent, int, float]]) -> None:
        """Hold values: key, value, its size in bytes, and the longest it may live in seconds.

        One that is larger than the whole level is not held.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            for key, value, n_bytes, life_s in entries:
                self._drop(key)
                size = len(key) + n_bytes + ENTRY_BYTES
                if size > self._max_bytes or life_s <= 0:
                    continue
                life_s *= 1.0 - _JITTER_FRAC * float(self._rng.random())
                self._held[key] = (value, size, now_s + life_s)
                self.n_bytes += size
            while self.n_bytes > self._max_bytes:
                _, (_, size, _) = self._held.popitem(last=False)
                self.n_bytes -= size
                self.n_evicted += 1

    def remove_many(self, keys: Iterable[bytes]) -> None:
        """Hold nothing under these keys."""
        with self._lock:
            for key in keys:
                self._drop(key)

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._held.clear()
            self.n_bytes = 0

    def _drop(self, key: bytes) -> None:
        entry = self._held.pop(key, None)
        if entry is not None:
            self.n_bytes -= entry[1]
