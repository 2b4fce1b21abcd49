"""``POST /api/v1/events``: the door, over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from millrace.app.access import Caller, Gate
from millrace.app.api.body import split_events
from millrace.app.api.guard import SEND, caller_of, security_of
from millrace.app.api.operations import TimedOperation, inlined
from millrace.app.api.problems import problem, problems
from millrace.app.metrics import Metrics
from millrace.stream.client_clock import sent_ms_of
from millrace.stream.collector import LineResult, Receipt


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a batch: how many of each, and a result for each event in the order of the request.

    ``state_offset`` is a log position at which all accepted events are in the log: a page whose ``state_offset``
    has reached it was made with them.
    """

    n_accepted: int
    n_duplicates: int
    n_refused: int
    state_offset: tuple[int, ...]
    results: tuple[LineResult, ...]


Submit = Callable[[Sequence[bytes], Caller, int | None], Awaitable[Receipt]]
"""Takes a caller's events, and what their clock showed, off the event loop, and answers once they are durable."""

SENT_HEADER: Final = "X-Millrace-Sent"
"""What the client's clock shows as it sends, in epoch milliseconds."""


def event_routes(
    submit: Submit, metrics: Metrics, gate: Gate, max_events: int, schema: dict[str, Any]
) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Parameters
    ----------
    submit
        The door.
    metrics
        Counts results.
    gate
        Tells whether credentials are asked for.
    max_events
        Most events of one request.
    schema
        JSON Schema of an event, for the OpenAPI document.
    """

    @post(
        "/api/v1/events",
        summary="Send events",
        tags=["events"],
        status_code=200,
        operation_class=_operation_of(schema),
        opt=SEND,
        security=security_of(gate, SEND),
        responses={
            200: ResponseSpec(EventsAnswer, description="A result for each event", generate_examples=False),
            422: ResponseSpec(EventsAnswer, description="Every event was refused", generate_examples=False),
            **problems(400, 401, 403, 413, 429, 503, 507, s413="Too many events, or bytes"),
        },
    )
    async def send_events(request: Request[Any, Any, Any]) -> Response[Any]:
        """Take up to 10,000 events; the answer comes when the accepted ones are durable.

        A malformed event is refused with its reason and the rest goes on. Sending a batch again is safe:
        events that are there already are answered as duplicates. A viewer's token sends that viewer's own events
        only; others are refused, each by itself. Who sends faster than `[limits]` allows is told when to go on (429,
        `Retry-After`), and nothing was taken. A client that says in `X-Millrace-Sent` what its clock shows (epoch
        milliseconds) may be off: its events' times are moved to ours.
        """
        lines = split_events(await request.body())
        if len(lines) > max_events:
            return problem(413, f"{len(lines):,} events in one request", f"send at most {max_events:,} at once")
        receipt = await submit(lines, caller_of(request), sent_ms_of(request.headers.get(SENT_HEADER)))
        metrics.events(
            {
                "accepted": receipt.n_accepted,
                "duplicate": receipt.n_duplicates,
                "refused": receipt.n_refused,
            }
        )
        answer = EventsAnswer(
            n_accepted=receipt.n_accepted,
            n_duplicates=receipt.n_duplicates,
            n_refused=receipt.n_refused,
            state_offset=receipt.end,
            results=receipt.results,
        )
        return Response(answer, status_code=422 if lines and receipt.n_refused == len(lines) else 200)

    return [send_events]


def _operation_of(schema: dict[str, Any]) -> type[Operation]:
    """Return the operation that says what the body is: the handler reads raw bytes, so the framework cannot know."""
    event: Any = inlined(schema)  # the document takes plain objects as well as the framework's
    body = {"anyOf": [{"type": "array", "items": event}, event]}

    @dataclass
    class EventsOperation(TimedOperation):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.request_body = RequestBody(
                description="A JSON array of events, one event, or NDJSON (one event a line). None is fine too.",
                content={
                    "application/json": OpenAPIMediaType(schema=cast("Schema", body)),
                    "application/x-ndjson": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING)),
                },
            )

    return EventsOperation
