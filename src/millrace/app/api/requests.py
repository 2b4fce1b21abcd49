"""``GET /api/v1/requests/{id}``: how a page was made, and why a post is on it, or why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter, PathParameter

from millrace.app.access import Gate
from millrace.app.api.guard import READ, caller_of, security_of
from millrace.app.api.operations import TimedOperation
from millrace.app.api.problems import problems
from millrace.base.errors import ForbiddenError
from millrace.mixer.explain import Explainer
from millrace.mixer.trace import Trace
from millrace.mixer.trace_answers import PostWhy, RequestTrace

_ENCODER = msgspec.json.Encoder()
_WHY = "/why/"

FindTrace = Callable[[str], Trace]
"""Finds the trace of a request by its id."""

FindExplainer = Callable[[], Explainer]
"""Gives what renders traces; raises as long as the state has not caught up."""

_PROBLEMS = problems(400, 401, 403, 404, 410, 503)


def request_routes(
    find_trace: FindTrace,
    find_explainer: FindExplainer,
    gate: Gate,
) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Parameters
    ----------
    find_trace, find_explainer
        Where traces are, and what renders them.
    gate
        Tells whether credentials are asked for.
    """

    def find(request_id: str, request: Request[Any, Any, Any]) -> tuple[Trace, Explainer, bool]:
        """Return the trace, what renders it, and whether who asks is an operator."""
        explainer = find_explainer()
        trace = find_trace(request_id)
        caller = caller_of(request)
        if not caller.may_read(trace.head.viewer_id):
            raise ForbiddenError(
                "request",
                value=request_id,
                problem="is somebody else's",
                remedy="viewers may ask about their own pages only",
            )
        return trace, explainer, caller.role == "admin"

    @get(
        "/api/v1/requests/{request_id:str}",
        summary="How a page was made",
        tags=["explanations"],
        opt=READ,
        security=security_of(gate, READ),
        operation_class=TimedOperation,
        responses={200: ResponseSpec(RequestTrace, description="The trace", generate_examples=False), **_PROBLEMS},
    )
    async def trace(
        request: Request[Any, Any, Any],
        request_id: Annotated[str, PathParameter(description="The request_id of a page")],
        ids: Annotated[bool, Parameter(description="With ids and scores after every stage; for admins")] = False,
    ) -> Response[bytes]:
        """Answer candidates per source, drops per filter, every component's time, and the params that held."""
        found, explainer, is_operator = find(request_id, request)
        if ids and not is_operator:
            raise ForbiddenError("ids", problem="is for operators", remedy="leave it out, or use an admin key")
        return _answer(await explainer.request(found, with_ids=ids, with_errors=is_operator))

    @get(
        ["/api/v1/requests/{request_id:str}/why/{post_id:path}", "/api/v1/requests/{request_id:str}/why"],
        summary="Why a post is on a page, or why not",
        tags=["explanations"],
        opt=READ,
        security=security_of(gate, READ),
        operation_class=TimedOperation,
        responses={200: ResponseSpec(PostWhy, description="The reasons", generate_examples=False), **_PROBLEMS},
    )
    async def why(
        request: Request[Any, Any, Any],
        request_id: Annotated[str, PathParameter(description="The request_id of a page")],
        post_id: Annotated[str | None, PathParameter(description="Any post's id, percent-encoded")] = None,
    ) -> Response[bytes]:
        """Answer, for a post that was ranked, its sources, every probability x weight and every step to its score.

        For one that a filter dropped, the filter and its reason; for one that no source returned, what each source
        says, as things stand now.
        """
        found, explainer, is_operator = find(request_id, request)
        return _answer(await explainer.why(found, _post_id(request, post_id), with_errors=is_operator))

    return [trace, why]


def _post_id(request: Request[Any, Any, Any], routed: str | None) -> str:
    """Return the post's id as it was sent: routing takes slashes at its ends, and double ones, for nothing."""
    _, marker, raw = request.scope.get("raw_path", b"").decode("latin-1").partition(_WHY)
    return unquote(raw) if marker else (routed or "").removeprefix("/")


def _answer(answer: RequestTrace | PostWhy) -> Response[bytes]:
    return Response(_ENCODER.encode(answer), media_type="application/json")
