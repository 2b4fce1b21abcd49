"""Errors as answers: one JSON shape, one rule from exception to status."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.status_codes import HTTP_503_SERVICE_UNAVAILABLE

from millrace.base.errors import (
    DeadlineExceeded,
    LogError,
    LogFullError,
    MillraceError,
    NotReadyError,
    SchemaError,
)

RETRY_AFTER_S: Final = "1"
"""Seconds, as a header's text: a worker that starts, or a disk that is busy, needs about that long."""


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


def on_millrace_error(_request: Request[Any, Any, Any], error: MillraceError) -> Response[ProblemAnswer]:
    """Answer one of our errors: thing, value and problem as the message, the remedy beside it."""
    message = str(error).removesuffix(f"; {error.remedy}")
    return problem(status_of(error), message, error.remedy)


def on_http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Response[ProblemAnswer]:
    """Answer an error that the framework found: an unknown path, a wrong query parameter."""
    message = error.detail
    if isinstance(error.extra, list):
        parts = [f"{item.get('key', '')} {item.get('message', '')}".strip() for item in error.extra]
        message = "; ".join(parts) or message
    answer = problem(error.status_code, message)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


ON_ERROR = {MillraceError: on_millrace_error, HTTPException: on_http_error}
