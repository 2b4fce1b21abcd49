"""`EventCheck`: what may enter the log. One event in, the message that carries it or the reason of its refusal out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from millrace.base.errors import AccessError, SchemaError
from millrace.events.codec import EventCodec, check_meaning
from millrace.events.envelope import AnyEvent
from millrace.stream.log import Message

DOOR: Final = "door/"
"""Beginning of the origin of dead letters that the door refused; the source follows."""

_CUT_BYTES: Final = 4096

Admit = Callable[[AnyEvent], AnyEvent]
"""Returns an event as its sender may send it; raises `AccessError` where they may not."""

Amend = Callable[[AnyEvent], AnyEvent]
"""Returns an event that may enter as it enters."""

Rule = Callable[[AnyEvent], None]
"""Raises `SchemaError` where an event of a client does not meet it, whoever the client is."""


class _HeadPayload(msgspec.Struct):
    type: str = ""


class _Head(msgspec.Struct):
    """As much of a refused line as helps to find it again."""

    event_id: str | int = ""
    payload: _HeadPayload = msgspec.field(default_factory=_HeadPayload)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that may not enter.

    Attributes
    ----------
    event_id
        As far as it could be read; else empty.
    topic
        Where it was meant to go; empty if its type is not known.
    origin
        ``"door/<source>"``.
    reason
        What is wrong and what would be right.
    data
        The bytes as they came (of an oversized one, its beginning).
    is_kept
        Whether it becomes a dead letter. What an untrusted sender sends does not: replaying one asks nobody whether
        the sender may.
    """

    event_id: str
    topic: str
    origin: str
    reason: str
    data: bytes
    is_kept: bool = True

    @property
    def letter(self) -> tuple[str, str, str, bytes]:
        """The refusal as `Log.dead_letter` takes it."""
        return (self.topic, self.origin, self.reason, self.data)


class EventCheck:
    """Checks events one by one.

    Parameters
    ----------
    codec
        What events are.
    max_event_bytes
        Larger ones are refused.
    rule
        What clients' events must meet beyond their schema; raises `SchemaError`.
    """

    def __init__(self, codec: EventCodec, *, max_event_bytes: int, rule: Rule | None = None) -> None:
        self._codec = codec
        self._rule = rule
        self._max_event_bytes = max_event_bytes

    def line(
        self, line: bytes, *, source: str, now_ms: int, admit: Admit | None = None, amend: Amend | None = None
    ) -> Message | Refusal:
        """Check a client's JSON object; ``source`` and ``now_ms`` stand in where it does not say. Never raises.

        ``admit`` decides what an untrusted sender may send; None trusts. ``amend`` comes last.
        """
        try:
            if len(line) > self._max_event_bytes:
                raise self._too_large(line)
            event = self._codec.decode_json(line, default_source=source, now_ms=now_ms)
            event_type = self._codec.registry.of(event.payload)
            if event_type.is_internal:
                raise SchemaError(
                    "event type",
                    value=event_type.name,
                    problem="written by the server only",
                    remedy="send what the viewer saw and did instead: Impression, Engagement",
                )
            if self._rule is not None:
                self._rule(event)
            event = event if admit is None else admit(event)
            return message_of(event if amend is None else amend(event), self._codec)
        except (SchemaError, AccessError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # Not only SchemaError: numbers beyond 64 bits and bottomless nesting end the decoder in other ways.
            head = _peek(line)
            topic = self._topic(head.payload.type)
            reason, data = _reason(error), self._cut(line)
            return Refusal(str(head.event_id), topic, f"{DOOR}{source}", reason, data, is_kept=admit is None)

    def event(self, event: AnyEvent) -> Message | Refusal:
        """Check an event of our own producers by the same rules; internal types are allowed."""
        try:
            message = message_of(event, self._codec)
            if len(message.data) > self._max_event_bytes:
                raise self._too_large(message.data)
            self._codec.decode(message.data)
            check_meaning(event.payload, self._codec.actions)
        except (SchemaError, ValueError, TypeError, OverflowError) as error:
            topic = self._topic(type(event.payload).__name__)
            return Refusal(event.event_id, topic, f"{DOOR}{event.source}", _reason(error), self._as_json(event))
        return message

    def _topic(self, type_name: str) -> str:
        registry = self._codec.registry
        return registry.by_name(type_name).topic if type_name in registry else ""

    def _as_json(self, event: AnyEvent) -> bytes:
        try:
            return self._cut(self._codec.encode_json(event))
        except (ValueError, TypeError, OverflowError):
            return self._cut(repr(event).encode(errors="replace"))

    def _cut(self, data: bytes) -> bytes:
        # An oversized line cannot be replayed anyway; its beginning tells what it was.
        return data if len(data) <= self._max_event_bytes else data[:_CUT_BYTES]

    def _too_large(self, data: bytes) -> SchemaError:
        return SchemaError(
            "event",
            value=data[:80],
            problem=f"{len(data)} bytes long",
            remedy=f"send at most {self._max_event_bytes} bytes (log.max_event_bytes); only its beginning is kept",
        )


def message_of(event: AnyEvent, codec: EventCodec) -> Message:
    """Return the message that carries an event: encoded, with its topic and its key.

    Raises
    ------
    SchemaError
        If the payload's type is not registered.
    """
    event_type = codec.registry.of(event.payload)
    key = getattr(event.payload, event_type.key) if event_type.key else ""
    return Message(event_type.topic, str(key), event.event_id, event.event_time_ms, codec.encode(event))


def _peek(line: bytes) -> _Head:
    try:
        return msgspec.json.decode(line, type=_Head)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return _Head()


def _reason(error: Exception) -> str:
    if isinstance(error, SchemaError | AccessError):
        return str(error)
    return f"event: cannot be read ({type(error).__name__}: {error}); send numbers of 64 bits and flat objects"
