"""``GET /api/v1/flywheel``: how the feed learns on: figures of the last hours, promotions and refusals with reasons."""

from __future__ import annotations

from collections.abc import Callable

from litestar import get
from litestar.handlers import HTTPRouteHandler

from millrace.app.access import Gate
from millrace.app.api.guard import ADMIN, security_of
from millrace.app.api.operations import PlainOperation
from millrace.app.api.problems import problems
from millrace.app.flywheel_status import FlywheelStatus

TellFlywheel = Callable[[], FlywheelStatus]
"""Tells what the flywheel has come to; reads files."""


def flywheel_routes(tell: TellFlywheel, gate: Gate) -> list[HTTPRouteHandler]:
    """Return the handler.

    Parameters
    ----------
    tell
        Asked at every request.
    gate
        Tells whether credentials are asked for.
    """

    @get(
        "/api/v1/flywheel",
        summary="How does the feed learn on, and what was decided?",
        tags=["operations"],
        opt=ADMIN,
        security=security_of(gate, ADMIN),
        operation_class=PlainOperation,
        sync_to_thread=True,
        responses=problems(401, 403, 503),
    )
    def flywheel() -> FlywheelStatus:
        """Tell how well the last hours were predicted, and which rankers were promoted or refused and why."""
        return tell()

    return [flywheel]
