"""``GET /api/v1/models``: what serves, and how far a training is."""

from __future__ import annotations

from collections.abc import Callable

from litestar import get
from litestar.handlers import HTTPRouteHandler

from millrace.app.access import Gate
from millrace.app.api.guard import ADMIN, security_of
from millrace.app.api.operations import PlainOperation
from millrace.app.api.problems import problems
from millrace.app.model_status import ModelStatus

TellModels = Callable[[], ModelStatus]
"""Tells what serves and what is being trained; reads files."""


def model_routes(tell: TellModels, gate: Gate) -> list[HTTPRouteHandler]:
    """Return the handler.

    Parameters
    ----------
    tell
        Asked at every request.
    gate
        Tells whether credentials are asked for.
    """

    @get(
        "/api/v1/models",
        summary="What serves, and what is being trained?",
        tags=["operations"],
        opt=ADMIN,
        security=security_of(gate, ADMIN),
        operation_class=PlainOperation,
        sync_to_thread=True,
        responses=problems(401, 403, 503),
    )
    def models() -> ModelStatus:
        """Tell the versions that everybody's pages are made with, and how far a training is; for operators."""
        return tell()

    return [models]
