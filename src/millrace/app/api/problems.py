"""Errors as answers: one JSON shape, one rule from exception to status."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from millrace.base.errors import (
    DeadlineExceeded,
    GoneError,
    LogError,
    LogFullError,
    MillraceError,
    NotFoundError,
    NotReadyError,
    SchemaError,
)


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
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, GoneError):
        return 410
    if isinstance(error, LogFullError):
        return 507
    if isinstance(error, LogError | DeadlineExceeded | NotReadyError):
        return 503
    return 500


def problem(status: int, message: str, remedy: str = "") -> Response[ProblemAnswer]:
    """Return an answer that says what is wrong."""
    return Response(
        ProblemAnswer(Problem(status=status, message=message, remedy=remedy)),
        status_code=status,
        media_type="application/json",
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
