"""Errors as answers: one JSON shape, one rule from exception to status."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_503_SERVICE_UNAVAILABLE

from millrace.base.errors import (
    DeadlineExceeded,
    ForbiddenError,
    GoneError,
    LogError,
    LogFullError,
    MillraceError,
    NotFoundError,
    NotReadyError,
    SchemaError,
    TooManyError,
    UnauthenticatedError,
)

RETRY_AFTER_S: Final = "1"
"""Seconds, as a header's text: a worker that starts, or a disk that is busy, needs about that long."""

logger: Final = logging.getLogger(__name__)

_MEANINGS: Final = {
    400: "A parameter or the body is wrong",
    401: "Credentials are missing, or cannot be used",
    403: "Not for this caller",
    404: "Never heard of",
    410: "Not kept any more",
    413: "Too much in one request",
    429: "Too many; nothing was taken, go on after `Retry-After` seconds",
    503: "Not now; try again in a moment",
    507: "No room; nothing was taken",
}


_ABOUT_HTTP: Final = {
    404: ("path {path!r}", "see /schema for the paths that there are"),
    413: ("body", "send less at once, or raise server.max_body_bytes"),
    405: ("method {method!r} of path {path!r}", "see /schema for the methods of each path"),
}
"""What an error of the framework is about, and what to do."""

_MAX_PATH_CHARS: Final = 120
_KINDS: Final = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What was wrong with a request, and what to do about it."""

    status: int
    message: str
    remedy: str = ""


class ProblemAnswer(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: Problem


def status_of(error: MillraceError) -> int:
    """Return the HTTP status of one of our errors."""
    if isinstance(error, SchemaError):
        return 400
    if isinstance(error, UnauthenticatedError):
        return 401
    if isinstance(error, ForbiddenError):
        return 403
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, GoneError):
        return 410
    if isinstance(error, TooManyError):
        return 429
    if isinstance(error, LogFullError):
        return 507
    if isinstance(error, LogError | DeadlineExceeded | NotReadyError):
        return 503
    return 500


def problem(status: int, message: str, remedy: str = "") -> Response[ProblemAnswer]:
    """Return an answer that says what is wrong; where it will pass by itself, also when to ask again."""
    return Response(
        ProblemAnswer(Problem(status=status, message=message, remedy=remedy)),
        status_code=status,
        media_type="application/json",
        headers={"retry-after": RETRY_AFTER_S} if status == HTTP_503_SERVICE_UNAVAILABLE else None,
    )


def problems(*statuses: int, **said: str) -> dict[int, ResponseSpec]:
    """Return errors as a route declares them in the OpenAPI document.

    Parameters
    ----------
    statuses
        Which ones.
    said
        What one means here, where that is more than usual: ``s413="Too many events, or bytes"``.
    """
    return {
        status: ResponseSpec(
            ProblemAnswer, description=said.get(f"s{status}", _MEANINGS[status]), generate_examples=False
        )
        for status in statuses
    }


def on_millrace_error(_request: Request[Any, Any, Any], error: MillraceError) -> Response[ProblemAnswer]:
    """Answer one of our errors: thing, value and problem as the message, the remedy beside it."""
    message = str(error).removesuffix(f"; {error.remedy}")
    answer = problem(status_of(error), message, error.remedy)
    if isinstance(error, TooManyError):
        answer.headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, UnauthenticatedError):
        # RFC 6750: a challenge names no error where nothing was presented.
        answer.headers["WWW-Authenticate"] = 'Bearer realm="millrace"' + (
            "" if error.problem == "missing" else ', error="invalid_token"'
        )
    return answer


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[ProblemAnswer]:
    """Answer an error that the framework found: an unknown path, a wrong query parameter."""
    if isinstance(error.extra, list) and error.extra:
        wrong = [_parameter_error(request, item) for item in error.extra]
        message = "; ".join(str(one).removesuffix(f"; {one.remedy}") for one in wrong)
        answer = problem(error.status_code, message, "; ".join(dict.fromkeys(one.remedy for one in wrong)))
    else:
        thing, remedy = _ABOUT_HTTP.get(error.status_code, ("", "see /schema for what can be asked"))
        about = f"{thing.format(path=request.url.path[:_MAX_PATH_CHARS], method=request.method)}: " if thing else ""
        answer = problem(error.status_code, about + error.detail, remedy)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


def _parameter_error(request: Request[Any, Any, Any], item: Mapping[str, Any]) -> SchemaError:
    """Return what is wrong with a parameter in our words; the framework tells only what it expected."""
    name, said = str(item.get("key", "")), str(item.get("message", "")).replace("`", "")
    value = request.query_params.get(name)
    thing = f"query parameter {name}"
    if not said.startswith("Expected "):
        return SchemaError(thing, value=value, problem=said, remedy="see /schema for what it may be")
    kind, _, rest = said.removeprefix("Expected ").partition(", got ")[0].partition(" ")
    wanted = f"{_KINDS.get(kind, kind)} {rest}".strip()
    return SchemaError(thing, value=value, problem=f"not {wanted}", remedy=f"give {wanted}, or leave it out")


def on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[ProblemAnswer]:
    """Answer what nobody expected: the client is told that it happened, the log what it was."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(500, "the server failed", "try again; its log says what happened")


ON_ERROR = {MillraceError: on_millrace_error, HTTPException: on_http_error, Exception: on_bug}
