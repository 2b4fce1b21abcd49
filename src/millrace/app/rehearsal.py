"""`Rehearsal`: takes events as `millrace.app.intake.Intake` does, by the door's own checks, and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from millrace.app import wiring
from millrace.app.settings import Settings
from millrace.events.envelope import AnyEvent
from millrace.stream.checks import Refusal

_SHOWN_OF_A_TYPE: Final = 3
_MAX_REFUSALS: Final = 5


class Rehearsal:
    """What would become of events.

    Parameters
    ----------
    settings
        Which types and actions there are, and how large an event may be.

    Attributes
    ----------
    first_events
        The first few of every type, in the order in which they came.
    n_acceptable, n_refused
        Events so far; whether the log has them already is not looked up.
    refusals
        The first few reasons.
    """

    def __init__(self, settings: Settings) -> None:
        self._check = wiring.build_event_check(settings)
        self._n_by_type: Counter[type] = Counter()
        self.first_events: list[AnyEvent] = []
        self.n_acceptable = self.n_refused = 0
        self.refusals: list[str] = []

    def take(self, events: Sequence[AnyEvent]) -> None:
        """Check events, and keep the first ones."""
        for event in events:
            checked = self._check.event(event)
            if isinstance(checked, Refusal):
                self.n_refused += 1
                if len(self.refusals) < _MAX_REFUSALS:
                    self.refusals.append(checked.reason)
                continue
            self.n_acceptable += 1
            kind = type(event.payload)
            if self._n_by_type[kind] < _SHOWN_OF_A_TYPE:
                self._n_by_type[kind] += 1
                self.first_events.append(event)

    def figures(self) -> dict[str, object]:
        """Return the counts, for JSON."""
        return {"n_acceptable": self.n_acceptable, "n_refused": self.n_refused, "refusals": self.refusals}
