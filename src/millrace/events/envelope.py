"""`Event[T]`: one envelope over every payload, and the pieces that payloads share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, TypeVar

from msgspec import Meta, Struct

from millrace.base.ids import MAX_ID_BYTES

MAX_TIME_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999: calendars, SQL and Parquet end there."""

_MAX_SCHEMA_VERSION: Final = (1 << 31) - 1

SCHEMA_VERSION: Final = 1
"""Version written by this code. Rules of evolution: docs/events.md."""


def _id_meta(kind: str, what: str) -> Meta:
    return Meta(
        min_length=1,
        max_length=MAX_ID_BYTES,
        description=f"{what}: text or a whole number (42 and '42' are one id), at most {MAX_ID_BYTES} bytes",
        extra={"id": kind},
        # msgspec lets a type's own keywords win; `EventCodec.json_schema` puts this one in their place.
        extra_json_schema={"x-type": ["string", "integer"]},
    )


UserId = Annotated[str, _id_meta("user", "A user's id")]
PostId = Annotated[str, _id_meta("post", "A post's id")]
ListId = Annotated[str, _id_meta("list", "A list's or group's id")]
RequestId = Annotated[str, _id_meta("request", "The id of the request that served the page")]
TimeMs = Annotated[int, Meta(ge=0, le=MAX_TIME_MS, description="Epoch milliseconds, up to the year 9999")]
Text = Annotated[str, Meta(max_length=100_000)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]

PayloadT = TypeVar("PayloadT", covariant=True)


class Event(Struct, Generic[PayloadT], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that happened.

    Parameters
    ----------
    event_id
        Chosen by the producer; the same id within the log's duplicate window is one event. Where a client
        sends none, it is derived from the content, so that sending twice is still one event.
    event_time_ms
        When it happened, in epoch milliseconds, by the producer's clock.
    source
        Who says so: ``"web"``, ``"importer/reddit-posts"``.
    payload
        What happened: a tagged struct; its ``type`` decides the topic.
    schema_version
        Version of the payload's schema.
    """

    event_id: Annotated[str, Meta(min_length=1, max_length=128)]
    event_time_ms: TimeMs
    source: Annotated[str, Meta(min_length=1, max_length=128)]
    payload: PayloadT
    schema_version: Annotated[int, Meta(ge=1, le=_MAX_SCHEMA_VERSION)] = SCHEMA_VERSION


AnyEvent = Event[Any]


class Payload(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag=True):
    """Base of all payloads: tagged with the class name, unknown fields ignored (newer producers may add)."""


class Context(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where and how an interaction happened, as far as the client says.

    Nothing here is required, and nothing here is used in ranking unless it is switched on.
    """

    session_id: Annotated[str, Meta(max_length=128)] = ""
    device: Annotated[str, Meta(max_length=128)] = ""
    os: Annotated[str, Meta(max_length=64)] = ""
    app_version: Annotated[str, Meta(max_length=64)] = ""
    network: Annotated[str, Meta(max_length=64)] = ""
    place: Annotated[str, Meta(max_length=128)] = ""
    surface: Annotated[str, Meta(max_length=64)] = ""
    element: Annotated[str, Meta(max_length=64)] = ""
    page: Annotated[int, Meta(ge=0)] | None = None
