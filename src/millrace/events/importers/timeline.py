"""Times of an import: original times kept or compressed, and later reactions told in order, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from millrace.events.envelope import AnyEvent, Event, Payload
from millrace.events.importers.options import ImportOptions
from millrace.events.importers.report import ImportReport

MAX_WAITING: Final = 200_000
"""Bounds the memory that waiting reactions take, at some 300 bytes each."""


@dataclass(frozen=True, slots=True)
class TimeMap:
    """A straight line from the data set's times to event times.

    Parameters
    ----------
    first_ms, last_ms
        The data set's earliest and latest time.
    start_ms, end_ms
        Where they go.
    """

    first_ms: int
    last_ms: int
    start_ms: int
    end_ms: int

    @classmethod
    def of(cls, options: ImportOptions, first_ms: int, last_ms: int) -> TimeMap:
        """Return the map that the options ask for."""
        if options.span_ms is None:
            return cls(first_ms, last_ms, first_ms, last_ms)
        return cls(first_ms, last_ms, options.now_ms - options.span_ms, options.now_ms)

    def event_time_ms(self, original_ms: int) -> int:
        """Return the event time of an original time; integers throughout, so that no rounding moves the end."""
        length = self.last_ms - self.first_ms
        if length <= 0:
            return self.end_ms
        return self.end_ms - (self.last_ms - original_ms) * (self.end_ms - self.start_ms) // length


class Teller:
    """Stamps payloads with ids, keeps reactions until their time has come, and counts.

    Parameters
    ----------
    source
        ``"importer/<name>"``.
    max_waiting
        How many reactions may wait for their time; beyond it the earliest is told ahead of its time's order.
    """

    def __init__(
        self, source: str, options: ImportOptions, report: ImportReport, *, max_waiting: int = MAX_WAITING
    ) -> None:
        self._max_waiting = max_waiting
        self._source = source
        self._prefix = source.removeprefix("importer/")
        self._options = options
        self._suffix = options.id_suffix()
        self._report = report
        self._waiting: list[tuple[int, int, Payload]] = []
        self._n_kept = 0

    def tell(self, time_ms: int, payload: Payload, key: str) -> AnyEvent:
        """Return the event of a payload; ``key`` names it within the data set and decides its id."""
        self._report.count_event(type(payload).__name__)
        return Event(
            event_id=f"{self._prefix}/{key}{self._suffix}"[:128],
            event_time_ms=time_ms,
            source=self._source,
            payload=payload,
        )

    def later(self, time_ms: int, payload: Payload) -> None:
        """Keep a reaction; one that would come after the import's moment never happens."""
        if time_ms < self._options.now_ms:
            heapq.heappush(self._waiting, (time_ms, self._n_kept, payload))
            self._n_kept += 1

    def due(self, time_ms: int) -> Iterator[AnyEvent]:
        """Yield the reactions up to a time, in order, and what no longer fits into memory."""
        waiting = self._waiting
        while waiting and (waiting[0][0] <= time_ms or len(waiting) > self._max_waiting):
            at_ms, number, payload = heapq.heappop(waiting)
            yield self.tell(at_ms, payload, f"s{self._options.seed}/{number}")

    def rest(self) -> Iterator[AnyEvent]:
        """Yield all reactions that are left."""
        yield from self.due(self._options.now_ms)
