"""``GET /api/v1/timeline/home``: a page of the feed."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from millrace.app.api.problems import ProblemAnswer
from millrace.app.viewers import ActiveViewer
from millrace.base.ids import normalise_id
from millrace.mixer.feed import FeedRequest, FeedResponse

_MAX_VIEWERS = 100
_ENCODER = msgspec.json.Encoder()

ServeHome = Callable[[FeedRequest], Awaitable[FeedResponse]]
"""Makes a page; the state is held still for as long as it takes."""

FindViewers = Callable[[int], Awaitable[list[ActiveViewer]]]
"""Finds the most active viewers."""


def timeline_routes(serve_home: ServeHome, find_viewers: FindViewers) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Parameters
    ----------
    serve_home
        Makes a page.
    find_viewers
        Names viewers to try, in development mode.
    """

    @get(
        "/api/v1/timeline/home",
        summary="A page of a viewer's feed",
        tags=["timeline"],
        responses={
            200: ResponseSpec(FeedResponse, description="The page", generate_examples=False),
            400: ResponseSpec(ProblemAnswer, description="A parameter is wrong", generate_examples=False),
            503: ResponseSpec(
                ProblemAnswer,
                description="The state has not caught up, or the claim store does not answer; ask again in a moment",
                generate_examples=False,
            ),
        },
    )
    async def home(
        request: Request[Any, Any, Any],
        viewer: Annotated[str, Parameter(description="Whose feed (development mode: anybody's)", max_length=512)],
        limit: Annotated[int | None, Parameter(description="Posts at most; default: a page", ge=1)] = None,
        debug: Annotated[bool, Parameter(description="With debug_info: counts, latencies, outcomes")] = True,
        cursor: Annotated[
            str | None, Parameter(description="The cursor of the page before; none: a first page")
        ] = None,
    ) -> Response[bytes]:
        """Answer a ranked page, and for every post its sources, its reason and how its score came about.

        No post comes on two pages of a viewer. The same cursor, or a first page with the same ``X-Request-ID``, gives
        the same page once more for ten minutes. A viewer that nobody has heard of gets a page as well: what is
        popular now.
        """
        wanted = FeedRequest(
            viewer_id=normalise_id(viewer, "viewer"),
            limit=limit,
            request_id=uuid.uuid4().hex,
            debug=debug,
            cursor=cursor,
            correlation_id=request.headers.get("x-request-id", ""),
        )
        return Response(_ENCODER.encode(await serve_home(wanted)), media_type="application/json")

    @get(
        "/api/v1/viewers",
        summary="Active viewers",
        tags=["timeline"],
        responses={
            400: ResponseSpec(ProblemAnswer, description="A parameter is wrong", generate_examples=False),
            503: ResponseSpec(ProblemAnswer, description="The state has not caught up", generate_examples=False),
        },
    )
    async def viewers(
        limit: Annotated[int, Parameter(description="Viewers at most", ge=1, le=_MAX_VIEWERS)] = 10,
    ) -> list[ActiveViewer]:
        """Name the most active viewers, to have somebody to look at; development mode only."""
        return await find_viewers(limit)

    return [home, viewers]
