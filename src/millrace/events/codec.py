"""Events to bytes and back: JSON at the door (validated), MessagePack in the log (trusted).

The door decodes in two steps: JSON to plain objects, ids brought to their canonical text, then conversion with
full validation. The log holds what the door let in, so it is decoded in one step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from millrace.base.actions import ActionSpace
from millrace.base.errors import SchemaError
from millrace.base.ids import normalise_id
from millrace.events.content_events import CountsObserved, LabelChanged, PostCreated
from millrace.events.envelope import AnyEvent, Event, Payload
from millrace.events.feed_events import Engagement
from millrace.events.registry import EventRegistry
from millrace.events.user_events import MuteChanged

RawObject = dict[str, Any]

_IMPRESSION: Final = "impression"
"""What `CountsObserved` may count besides actions."""


class EventCodec:
    """Encodes and decodes the events of one registry.

    Parameters
    ----------
    registry
        The known types.
    actions
        The known actions; an `Engagement` or `CountsObserved` with another one is refused.
    """

    def __init__(self, registry: EventRegistry, actions: ActionSpace | None = None) -> None:
        self.registry = registry
        self.actions = actions or ActionSpace()
        self._event_type: Any = Event[registry.payload_union()]  # type: ignore[misc]
        self._encoder = msgspec.msgpack.Encoder()
        self._json_encoder = msgspec.json.Encoder()
        self._decoder = msgspec.msgpack.Decoder(self._event_type)
        self._raw_decoder = msgspec.json.Decoder()
        self._id_fixers = {t.name: _id_fixer(t.payload) for t in registry}

    def encode(self, event: AnyEvent) -> bytes:
        """Return the MessagePack bytes that the log keeps."""
        return self._encoder.encode(event)

    def decode(self, data: bytes | memoryview) -> AnyEvent:
        """Return the event of `encode`'s bytes, of this or any earlier schema version.

        Raises
        ------
        SchemaError
            If the bytes are not an event of this registry.
        """
        try:
            return self._decoder.decode(data)  # type: ignore[no-any-return]
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise SchemaError(
                "logged event", value=bytes(data[:40]), problem=str(error), remedy="see docs/events.md on evolution"
            ) from error

    def encode_json(self, event: AnyEvent) -> bytes:
        """Return one line of NDJSON, without the newline."""
        return self._json_encoder.encode(event)

    def decode_json(self, data: bytes | str, *, default_source: str = "client", now_ms: int | None = None) -> AnyEvent:
        """Return a validated event from a client's JSON object.

        Parameters
        ----------
        data
            One JSON object.
        default_source, now_ms
            Taken where the client gives no ``source`` or ``event_time_ms``.

        Raises
        ------
        SchemaError
            Naming the field, its value and what would be right.
        """
        try:
            raw = self._raw_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SchemaError(
                "event", value=data[:80], problem=f"not valid JSON ({error})", remedy="send one JSON object"
            ) from error
        return self.from_object(raw, default_source=default_source, now_ms=now_ms)

    def from_object(self, raw: object, *, default_source: str = "client", now_ms: int | None = None) -> AnyEvent:
        """Return a validated event from a plain object (a decoded JSON object)."""
        if not isinstance(raw, dict):
            raise SchemaError("event", value=raw, problem="not a JSON object", remedy="send an object per event")
        payload = raw.get("payload")
        if not isinstance(payload, dict):
            raise SchemaError(
                "event field payload", value=payload, problem="not an object", remedy='send {"type": ..., ...}'
            )
        event_type = self.registry.by_name(payload.get("type"))
        full: RawObject = {"source": default_source, **raw}
        if now_ms is not None:
            full.setdefault("event_time_ms", now_ms)
        full["payload"] = self._id_fixers[event_type.name](payload)
        if "event_id" in full:
            full["event_id"] = normalise_id(full["event_id"], "event_id")
        else:
            # Of what the client sent, not of what the door filled in: sending the same bytes twice is one event.
            full["event_id"] = _content_id(raw)
        try:
            event: AnyEvent = msgspec.convert(full, self._event_type)
        except msgspec.ValidationError as error:
            raise SchemaError(
                f"event of type {event_type.name}",
                value=payload,
                problem=str(error),
                remedy="see `millrace events schema`",
            ) from error
        check_meaning(event.payload, self.actions)
        return event

    def payload(self, type_name: str, fields: RawObject, *, is_from_text: bool = False) -> Payload:
        """Return a validated payload from its fields alone.

        Parameters
        ----------
        type_name
            The tag.
        fields
            Ids may be text or whole numbers.
        is_from_text
            Whether numbers and booleans may be given as text, as files of delimited text do.

        Raises
        ------
        SchemaError
            Naming the field and what would be right.
        """
        event_type = self.registry.by_name(type_name)
        try:
            payload: Payload = msgspec.convert(
                self._id_fixers[type_name](fields), event_type.payload, strict=not is_from_text
            )
        except msgspec.ValidationError as error:
            raise SchemaError(type_name, value=fields, problem=str(error), remedy="see docs/events.md") from error
        check_meaning(payload, self.actions)
        return payload

    def json_schema(self) -> RawObject:
        """Return the JSON Schema (2020-12) of all events as the door takes them."""
        schema: RawObject = _with_id_types(msgspec.json.schema(self._event_type))
        envelope = schema["$defs"][schema["$ref"].rpartition("/")[2]]
        envelope["required"] = ["payload"]  # the door gives the rest where a client does not
        return schema


def check_meaning(payload: Payload, actions: ActionSpace) -> None:
    """Check what types alone cannot say; raise `SchemaError` where it does not hold."""
    if isinstance(payload, Engagement):
        code = actions.sendable_code(payload.action)
        is_business = actions.names[code] in actions.business
        if payload.amount is not None and not is_business:
            raise SchemaError(
                "amount", value=payload.amount, problem=f"{payload.action} has none", remedy="leave it out"
            )
    elif isinstance(payload, PostCreated):
        if (payload.kind == "original") != (payload.parent_id is None):
            raise SchemaError(
                "parent_id",
                value=payload.parent_id,
                problem=f"does not fit kind {payload.kind!r}",
                remedy="give it for replies, reposts and quotes, and only for those",
            )
        if payload.parent_id == payload.post_id:
            raise SchemaError("parent_id", value=payload.parent_id, problem="is the post itself", remedy="correct it")
    elif isinstance(payload, CountsObserved):
        for name in payload.counts:
            if name != _IMPRESSION and name not in actions.names:
                raise SchemaError(
                    "counts",
                    value=name,
                    problem="not known",
                    remedy=f"count some of {', '.join((*actions.names, _IMPRESSION))}",
                )
    elif isinstance(payload, LabelChanged):
        _exactly_one("post_id or user_id", payload.post_id, payload.user_id)
    elif isinstance(payload, MuteChanged):
        _exactly_one("muted_id or keyword", payload.muted_id, payload.keyword)


def _with_id_types(node: Any) -> Any:
    """Return a JSON Schema in which ids may be text or whole numbers."""
    if isinstance(node, list):
        return [_with_id_types(item) for item in node]
    if not isinstance(node, dict):
        return node
    fixed = {key: _with_id_types(value) for key, value in node.items() if key != "x-type"}
    return {**fixed, "type": node["x-type"]} if "x-type" in node else fixed


def _exactly_one(thing: str, first: object, second: object) -> None:
    if (first is None) == (second is None):
        raise SchemaError(
            thing, value=(first, second), problem="not exactly one is given", remedy="give one of the two"
        )


def _content_id(raw: RawObject) -> str:
    data = msgspec.json.encode(raw, order="deterministic")
    return "c-" + hashlib.blake2b(data, digest_size=16).hexdigest()


def _id_fixer(payload: type[Payload]) -> Callable[[RawObject], RawObject]:
    """Return a function that brings the id fields of a raw payload to their canonical text."""
    info = msgspec.inspect.type_info(payload)
    fields = info.fields if isinstance(info, msgspec.inspect.StructType) else ()
    names = tuple(field.encode_name for field in fields if _is_id(field.type))

    def fix(raw: RawObject) -> RawObject:
        fixed = dict(raw)
        for name in names:
            value = fixed.get(name)
            if value is not None:
                fixed[name] = normalise_id(value, name)
        return fixed

    return fix


def _is_id(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_is_id(member) for member in kind.types)
    return isinstance(kind, msgspec.inspect.Metadata) and "id" in (kind.extra or {})
