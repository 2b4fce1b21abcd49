"""The `Fold` contract: state as a function of the log.

Three rules make live state, replayed state and every worker's state equal, byte for byte, however the log was
cut into batches:

1. A fold reads nothing but its own state and the events it handles, one after the other in log order. It never
   reads another fold (which may be ahead of it within a batch), a clock, or randomness. One exception:
   `millrace.stores.codes.CodeTables` is applied first and may be read by all. Names are only ever added to it and keep
   their codes, so being ahead changes no answer about a name that an event so far has carried.
2. Arrays grow at points that depend on the events alone (when full, doubling), never on the size of a batch.
3. Trimming happens in `tick`, which `millrace.stores.applier` calls right after the event that brought the
   log's watermark over a minute boundary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.events.envelope import AnyEvent, Payload

Arrays = dict[str, npt.NDArray[Any]]
"""Checkpointed state: names to arrays. Everything a fold knows must be in here."""


class EventBatch:
    """Decoded events in log order, with the selection that folds need.

    Parameters
    ----------
    events
        The decoded events.
    offsets
        Shape (n,), int64: log offsets.
    appended_ms
        Shape (n,), int64: the appender's clock; bounds event times from the future.
    """

    def __init__(self, events: list[AnyEvent], offsets: Int64Array, appended_ms: Int64Array) -> None:
        self.events = events
        self.offsets = offsets
        self.appended_ms = appended_ms
        self._rows_by_type: dict[type[Payload], list[int]] = {}
        for row, event in enumerate(events):
            self._rows_by_type.setdefault(type(event.payload), []).append(row)

    def __len__(self) -> int:
        return len(self.events)

    def rows_of(self, types: tuple[type[Payload], ...]) -> list[int]:
        """Return the rows of these payload types, in log order."""
        found = [rows for kind in types if (rows := self._rows_by_type.get(kind))]
        if len(found) <= 1:
            return found[0] if found else []
        return sorted(row for rows in found for row in rows)

    def slice(self, start: int, stop: int) -> EventBatch:
        """Return the events of rows ``start`` to ``stop``."""
        return EventBatch(self.events[start:stop], self.offsets[start:stop], self.appended_ms[start:stop])


class Fold(Protocol):
    """One store's write side."""

    @property
    def name(self) -> str:
        """Prefix of its arrays in a checkpoint."""

    @property
    def handles(self) -> tuple[type[Payload], ...]:
        """The payload types that change it."""

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""

    def tick(self, watermark_ms: int) -> None:
        """Let go of what the log's watermark has left behind."""

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones and must not be changed by the caller."""

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`; they may be mapped copy-on-write."""


def effective_time_ms(event_time_ms: Int64Array, appended_ms: Int64Array) -> Int64Array:
    """Return event times with those from the future brought back to their append, shape (n,), int64."""
    return np.minimum(event_time_ms, appended_ms)
