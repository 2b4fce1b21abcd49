"""What the door noticed about traffic: events that label other events, and change nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from millrace.events.envelope import Name, Payload, RequestId, TimeMs, UserId

TrafficReason = Literal["burst", "replay", "dwell", "clock"]


class TrafficFlagged(Payload, frozen=True, kw_only=True):
    """Events of a viewer were taken in that no person may have caused; written by the server only.

    The events themselves are in the log like any others. Whoever learns from them, or counts them, decides what to do.

    Attributes
    ----------
    viewer_id
        Whose looks and actions they are.
    client
        Who sent them, as the door knows the sender.
    reason
        ``burst``: more actions at once than fingers make. ``replay``: the same action again and again, under new
        ids. ``dwell``: longer looks than there was time for. ``clock``: the client's clock is off by more than that.
    events
        Their ids.
    value, limit
        What was measured, and what a person does at most: actions a second; repetitions; seconds of looks in a second;
        milliseconds off.
    requests
        The pages that the events name, each once.
    first_ms, last_ms
        The span of the events' times, none later than their arrival; 0 and 0 in flags from before there was one.
    """

    viewer_id: UserId
    client: Name
    reason: TrafficReason
    events: tuple[Annotated[str, Meta(max_length=128)], ...]
    value: float
    limit: float
    requests: tuple[RequestId, ...] = ()
    first_ms: TimeMs = 0
    last_ms: TimeMs = 0
