"""``GET /api/v1/users/{id}/features`` and ``/posts/{id}/features``: what the feature store says of one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter, PathParameter

from millrace.app.access import Gate
from millrace.app.api.guard import ADMIN, READ, caller_of, security_of
from millrace.app.api.operations import PlainOperation
from millrace.app.api.problems import problems
from millrace.app.feature_sheets import FeatureSheets, Grain, PostFeatureSheet, UserFeatureSheet
from millrace.base.errors import ForbiddenError
from millrace.base.ids import normalise_id

ReadSheets = Callable[[Callable[[FeatureSheets], Awaitable[Any]]], Awaitable[Any]]
"""Reads with the stores standing still; raises as long as the state has not caught up."""

_PROBLEMS = problems(400, 401, 403, 404, 503)


def feature_routes(read: ReadSheets, gate: Gate) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Parameters
    ----------
    read
        Gives what reads sheets.
    gate
        Tells whether credentials are asked for.
    """

    @get(
        "/api/v1/users/{user_id:str}/features",
        summary="What is known of a user",
        tags=["features"],
        opt=READ,
        security=security_of(gate, READ),
        operation_class=PlainOperation,
        responses=_PROBLEMS,
    )
    async def user_features(
        request: Request[Any, Any, Any],
        user_id: Annotated[str, PathParameter(description="The user's id")],
        history: Annotated[Grain, Parameter(description="How far the history goes back")] = "newest_50",
    ) -> UserFeatureSheet:
        """Answer every feature of a user, as of the state's log position; viewers may ask for themselves only."""
        user = normalise_id(user_id, "user id")
        if not caller_of(request).may_read(user):
            raise ForbiddenError("user", value=user_id, problem="is not you", remedy="ask for yourself")
        found: UserFeatureSheet = await read(lambda sheets: sheets.user(user, history))
        return found

    @get(
        "/api/v1/posts/{post_id:str}/features",
        summary="What is known of a post",
        tags=["features"],
        opt=ADMIN,
        security=security_of(gate, ADMIN),
        operation_class=PlainOperation,
        responses=_PROBLEMS,
    )
    async def post_features(
        post_id: Annotated[str, PathParameter(description="The post's id")],
    ) -> PostFeatureSheet:
        """Answer every feature of a live post, as of the state's log position; for operators."""
        found: PostFeatureSheet = await read(lambda sheets: sheets.post(post_id))
        return found

    return [user_features, post_features]
