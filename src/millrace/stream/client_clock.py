"""`ClientClock`: what a client's clock is off by, and its events' times by ours.

Phones and browsers have clocks that are minutes or years off. What they are right about is how long ago something was:
a client that says what its clock shows when it sends a batch has its events moved by the difference to ours (as the
collectors of Segment and Snowplow do with ``sentAt``). One that does not say is believed; times from the future count
as the time of arrival anyway (`millrace.stores.fold.effective_time_ms`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from millrace.base.errors import SchemaError
from millrace.events.envelope import MAX_TIME_MS, AnyEvent
from millrace.events.feed_events import ClockTick

TOLERANCE_MS: Final = 2_000
"""A smaller difference is the way through the network: the client's times are left as they are."""
_MAX_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class ClientClock:
    """One batch's times.

    Parameters
    ----------
    received_ms
        When it came, by our event-time clock.
    sent_ms
        When it was sent, by the client's clock; None if it did not say.
    tolerance_ms
        A difference up to this is none.
    """

    received_ms: int
    sent_ms: int | None = None
    tolerance_ms: int = TOLERANCE_MS

    @property
    def off_by_ms(self) -> int:
        """How far ahead of ours the client's clock is; 0 if that is not known, or nothing worth mending."""
        off_by_ms = 0 if self.sent_ms is None else self.sent_ms - self.received_ms
        return off_by_ms if abs(off_by_ms) > self.tolerance_ms else 0

    def corrected(self, event: AnyEvent) -> AnyEvent:
        """Return an event at the time that our clock showed when it happened, which is not later than its arrival."""
        if not self.off_by_ms or isinstance(event.payload, ClockTick):  # a tick is time itself
            return event
        time_ms = min(max(event.event_time_ms - self.off_by_ms, 0), self.received_ms)
        return msgspec.structs.replace(event, event_time_ms=time_ms)


def sent_ms_of(text: str | None) -> int | None:
    """Return what a client says its clock showed; None if it does not say.

    Raises
    ------
    SchemaError
        If it is no time.
    """
    if text is None:
        return None
    # The length first: Python refuses to make numbers of thousands of digits.
    if len(text) > _MAX_DIGITS or not (text.isascii() and text.isdigit()) or int(text) > MAX_TIME_MS:
        raise SchemaError(
            "X-Millrace-Sent",
            value=text[:_MAX_DIGITS],
            problem="not a time",
            remedy="send what the client's clock shows, in epoch milliseconds, or leave the header out",
        )
    return int(text)
