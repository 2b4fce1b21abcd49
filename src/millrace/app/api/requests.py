"""``GET /api/v1/requests/{id}``: how a page was made, and why a post is on it, or why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from millrace.app.api.problems import ProblemAnswer, problem
from millrace.mixer.explain import Explainer
from millrace.mixer.trace import Trace
from millrace.mixer.trace_answers import PostWhy, RequestTrace

_ENCODER = msgspec.json.Encoder()
_WHY = "/why/"

FindTrace = Callable[[str], Trace]
"""Finds the trace of a request by its id."""

FindExplainer = Callable[[], Explainer]
"""Gives what renders traces; raises as long as the state has not caught up."""

MayRead = Callable[[str, Request[Any, Any, Any]], bool]
"""Says whether a request may read what belongs to a viewer, named by the outside id."""

IsAdmin = Callable[[Request[Any, Any, Any]], bool]
"""Says whether a request is an admin's."""

_PROBLEMS = {
    400: ResponseSpec(ProblemAnswer, description="A parameter is wrong", generate_examples=False),
    403: ResponseSpec(ProblemAnswer, description="Somebody else's request", generate_examples=False),
    404: ResponseSpec(ProblemAnswer, description="Never heard of", generate_examples=False),
    410: ResponseSpec(ProblemAnswer, description="Its trace is not kept any more", generate_examples=False),
    503: ResponseSpec(ProblemAnswer, description="The state has not caught up", generate_examples=False),
}


def request_routes(
    find_trace: FindTrace,
    find_explainer: FindExplainer,
    may_read: MayRead = lambda _viewer_id, _request: True,
    is_admin: IsAdmin = lambda _request: True,
) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Parameters
    ----------
    find_trace, find_explainer
        Where traces are, and what renders them.
    may_read, is_admin
        Who may read what; in development mode everybody may read everything.
    """

    def find(request_id: str, request: Request[Any, Any, Any]) -> tuple[Trace, Explainer] | Response[ProblemAnswer]:
        explainer = find_explainer()
        trace = find_trace(request_id)
        if not may_read(trace.head.viewer_id, request):
            return problem(403, "this request is somebody else's", "viewers may ask about their own pages only")
        return trace, explainer

    @get(
        "/api/v1/requests/{request_id:str}",
        summary="How a page was made",
        tags=["explanations"],
        responses={200: ResponseSpec(RequestTrace, description="The trace", generate_examples=False), **_PROBLEMS},
    )
    async def trace(
        request: Request[Any, Any, Any],
        request_id: Annotated[str, Parameter(description="The request_id of a page")],
        ids: Annotated[bool, Parameter(description="With ids and scores after every stage; for admins")] = False,
    ) -> Response[Any]:
        """Answer candidates per source, drops per filter, every component's time, and the params that held."""
        found = find(request_id, request)
        if isinstance(found, Response):
            return found
        if ids and not is_admin(request):
            return problem(403, "ids: for admins only", "leave it out")
        return _answer(await found[1].request(found[0], with_ids=ids))

    @get(
        ["/api/v1/requests/{request_id:str}/why/{post_id:path}", "/api/v1/requests/{request_id:str}/why"],
        summary="Why a post is on a page, or why not",
        tags=["explanations"],
        responses={200: ResponseSpec(PostWhy, description="The reasons", generate_examples=False), **_PROBLEMS},
    )
    async def why(
        request: Request[Any, Any, Any],
        request_id: Annotated[str, Parameter(description="The request_id of a page")],
        post_id: Annotated[str | None, Parameter(description="Any post's id, percent-encoded")] = None,
    ) -> Response[Any]:
        """Answer, for a post that was ranked, its sources, every probability x weight and every step to its score.

        For one that a filter dropped, the filter and its reason; for one that no source returned, what each source
        says, as things stand now.
        """
        found = find(request_id, request)
        if isinstance(found, Response):
            return found
        return _answer(await found[1].why(found[0], _post_id(request, post_id)))

    return [trace, why]


def _post_id(request: Request[Any, Any, Any], routed: str | None) -> str:
    """Return the post's id as it was sent: routing takes slashes at its ends, and double ones, for nothing."""
    _, marker, raw = request.scope.get("raw_path", b"").decode("latin-1").partition(_WHY)
    return unquote(raw) if marker else (routed or "").removeprefix("/")


def _answer(answer: RequestTrace | PostWhy) -> Response[bytes]:
    return Response(_ENCODER.encode(answer), media_type="application/json")
