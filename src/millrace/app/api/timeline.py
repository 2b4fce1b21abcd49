"""``GET /api/v1/timeline/home`` and ``/following``: pages of a viewer's feeds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from millrace.app.access import Gate
from millrace.app.api.guard import ADMIN, READ, caller_of, security_of
from millrace.app.api.operations import NamedViewerOperation, PlainOperation
from millrace.app.api.problems import problems
from millrace.app.correlation import correlation_id_of
from millrace.app.viewers import ActiveViewer
from millrace.mixer.config import HomeConfig
from millrace.mixer.cursor import MAX_CURSOR_CHARS
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.registry.lanes import LANE_HEADER, LaneReader

_MAX_VIEWERS: Final = 100
_ENCODER: Final = msgspec.json.Encoder()

ServePage = Callable[[FeedRequest], Awaitable[FeedResponse]]
"""Makes a page; the state is held still for as long as it takes."""

NextRequestId = Callable[[], str]
"""Makes the server's own id of a request, under which it can be asked about later."""

FindViewers = Callable[[int], Awaitable[list[ActiveViewer]]]
"""Finds the most active viewers."""

_PAGE: Final = {
    200: ResponseSpec(FeedResponse, description="The page", generate_examples=False),
    **problems(400, 401, 403, 503),
}

Viewer = Annotated[
    str | None,
    Parameter(
        description="Whose feed: an id of 1 to 128 bytes. For operators, and in development mode; "
        "a viewer's token says it itself",
        max_length=512,
    ),
]
Cursor = Annotated[
    str | None,
    Parameter(
        description="Where the page begins: `cursor` of an earlier page",
        min_length=1,
        max_length=MAX_CURSOR_CHARS,
        pattern="^[!-~]+$",
    ),
]
Debug = Annotated[
    bool, Parameter(description="With debug_info: counts, latencies, outcomes; for operators, and in development mode")
]


Limit = int
"""Of a route: with the bound that the config gives."""


def timeline_routes(
    serve_home: ServePage,
    serve_following: ServePage,
    find_viewers: FindViewers,
    next_request_id: NextRequestId,
    gate: Gate,
    config: HomeConfig,
    lanes: LaneReader,
) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Parameters
    ----------
    serve_home, serve_following
        Make a page of the ranked feed, and of the chronological one.
    find_viewers
        Names viewers to try, for operators and in development mode.
    next_request_id
        Makes ids of requests.
    gate
        Tells whether credentials are asked for.
    config
        Sizes of pages.
    lanes
        Tells which models a request asks for, by a signed header.
    """
    operation = NamedViewerOperation if gate.mode == "development" else PlainOperation
    limits = Annotated[int, Parameter(description="Posts at most", ge=1, le=config.max_page_size)]
    page_size, has_debug = min(config.page_size, config.max_page_size), gate.mode == "development"

    def request_of(
        request: Request[Any, Any, Any], viewer: str | None, limit: int, cursor: str | None, debug: bool
    ) -> FeedRequest:
        caller = caller_of(request)
        if debug:
            caller.check_debug()
        viewer_id = caller.viewer_of(viewer)
        return FeedRequest(
            viewer_id=viewer_id,
            lane=lanes.lane(request.headers.get(LANE_HEADER), viewer_id),
            request_id=next_request_id(),
            limit=limit,
            cursor=cursor,
            correlation_id=correlation_id_of(request.headers.get("x-request-id", "")),
            debug=debug,
        )

    @get(
        "/api/v1/timeline/home",
        summary="A page of a viewer's feed",
        tags=["timeline"],
        opt=READ,
        security=security_of(gate, READ),
        operation_class=operation,
        responses=_PAGE,
        signature_namespace={"Limit": limits},
    )
    async def home(
        request: Request[Any, Any, Any],
        viewer: Viewer = None,
        limit: Limit = page_size,
        cursor: Cursor = None,
        debug: Debug = has_debug,
    ) -> Response[bytes]:
        """Answer a ranked page, and for every post its sources, its reason and how its score came about.

        A viewer that nobody has heard of gets a page as well: what is popular now. ``X-Request-ID`` is echoed, and
        asking for a first page again with the same one gives the same page.
        """
        return _answer(await serve_home(request_of(request, viewer, limit, cursor, debug)))

    @get(
        "/api/v1/timeline/following",
        summary="A page of what the accounts that a viewer follows posted, newest first",
        tags=["timeline"],
        opt=READ,
        security=security_of(gate, READ),
        operation_class=operation,
        responses=_PAGE,
        signature_namespace={"Limit": limits},
    )
    async def following(
        request: Request[Any, Any, Any],
        viewer: Viewer = None,
        limit: Limit = page_size,
        cursor: Cursor = None,
        debug: Debug = has_debug,
    ) -> Response[bytes]:
        """Answer a chronological page, in the same shape as the ranked one."""
        return _answer(await serve_following(request_of(request, viewer, limit, cursor, debug)))

    @get(
        "/api/v1/viewers",
        summary="Active viewers",
        tags=["timeline"],
        opt=ADMIN,
        security=security_of(gate, ADMIN),
        operation_class=PlainOperation,
        responses=problems(400, 401, 403, 503),
    )
    async def viewers(
        limit: Annotated[int, Parameter(description="Viewers at most", ge=1, le=_MAX_VIEWERS)] = 10,
    ) -> list[ActiveViewer]:
        """Name the most active viewers, to have somebody to look at; for operators, and in development mode."""
        return await find_viewers(limit)

    return [home, following, viewers]


def _answer(page: FeedResponse) -> Response[bytes]:
    return Response(_ENCODER.encode(page), media_type="application/json")
