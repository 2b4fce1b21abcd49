"""`Intake`: our own producers' way through the door, batch by batch: importers and the demo's world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Final, Self

from millrace.app import wiring
from millrace.app.settings import Settings
from millrace.base.clock import Clock
from millrace.events.envelope import AnyEvent

_BATCH_EVENTS: Final = 4_000
_MAX_REFUSALS: Final = 5


class Intake:
    """The door of a home, open for as long as the ``with`` block runs, and what became of all events.

    Parameters
    ----------
    settings
        The home.
    clock
        Stamps appends.

    Attributes
    ----------
    n_accepted, n_duplicates, n_refused
        Events so far.
    refusals
        The first few reasons.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._log = wiring.build_log(settings, clock)
        self._collector = wiring.build_collector(settings, self._log, wiring.build_codec(settings), clock)
        self.n_accepted = self.n_duplicates = self.n_refused = 0
        self.refusals: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    def take(self, events: Sequence[AnyEvent]) -> None:
        """Take events in; they are durable when it returns."""
        receipt = self._collector.submit(events)
        self.n_accepted += receipt.n_accepted
        self.n_duplicates += receipt.n_duplicates
        if receipt.n_refused:
            self.n_refused += receipt.n_refused
            self.refusals.extend(result.error for result in receipt if result.error)
            del self.refusals[_MAX_REFUSALS:]

    def figures(self) -> dict[str, object]:
        """Return the counts, for JSON."""
        return {
            "n_accepted": self.n_accepted,
            "n_duplicates": self.n_duplicates,
            "n_refused": self.n_refused,
            "refusals": self.refusals,
        }


def batches(events: Iterable[AnyEvent]) -> Iterator[list[AnyEvent]]:
    """Yield events in lists of a size that suits the log."""
    source = iter(events)
    while batch := list(islice(source, _BATCH_EVENTS)):
        yield batch
