"""The HTTP service: routes, errors, metrics and the OpenAPI document, around parts that are built elsewhere.

Every route says whom it is for (`millrace.app.api.guard`); one that does not is for operators. Development mode
answers whoever asks for any viewer, and therefore binds to loopback addresses only, answers to loopback host names
only, and refuses requests that another site's page sends from a browser.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter
from urllib.parse import urlsplit

from litestar import Litestar, Router
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from millrace import __version__
from millrace.app.access import Gate
from millrace.app.api.guard import ADMIN, SCHEMES, make_guard
from millrace.app.api.problems import ON_ERROR, problem
from millrace.app.api.query_check import check_query
from millrace.app.api.schema_page import SchemaPage
from millrace.app.correlation import correlation_id_of
from millrace.app.http_address import is_loopback, is_loopback_host
from millrace.app.http_headers import header_adder
from millrace.app.metrics import Metrics
from millrace.base.clock import Clock

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def make_app(
    routes: Sequence[HTTPRouteHandler],
    metrics: Metrics,
    gate: Gate,
    clock: Clock,
    *,
    max_body_bytes: int,
    lifespans: Sequence[Lifespan] = (),
) -> Litestar:
    """Return the ASGI application.

    Parameters
    ----------
    routes
        The handlers of `millrace.app.api`.
    metrics
        Counts and times requests.
    gate
        Tells who asks.
    clock
        Event time, told with every answer of the API.
    max_body_bytes
        Larger bodies are refused with 413.
    lifespans
        Entered in order when the server starts, left in reverse order when it stops.
    """

    def as_lifespan(enter: Lifespan) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
        @asynccontextmanager
        async def around(_app: Litestar) -> AsyncIterator[None]:
            async with enter():
                yield

        return around

    is_development = gate.mode == "development"
    return Litestar(
        route_handlers=list(routes),
        guards=[make_guard(gate), check_query],
        middleware=[RequestMeter(metrics), *([LoopbackOnly()] if is_development else [])],
        before_send=[header_adder(clock)],
        exception_handlers=ON_ERROR,  # type: ignore[arg-type]
        request_max_body_size=max_body_bytes,
        lifespan=[as_lifespan(enter) for enter in lifespans],
        openapi_config=OpenAPIConfig(
            title="Millrace",
            version=__version__,
            description="A stream of posts, follows and actions in; a ranked, explainable For You feed out. "
            + (
                "Development mode: this machine only, and anybody may ask for anything."
                if is_development
                else "Viewers carry tokens, producers and operators API keys."
            ),
            openapi_router=Router("/schema", route_handlers=[], opt=ADMIN, include_in_schema=False),
            components=Components() if is_development else SCHEMES,
            render_plugins=[SchemaPage(), JsonRenderPlugin(path="/openapi.json")],
            use_handler_docstrings=True,
        ),
        logging_config=None,
        debug=False,
    )


class RequestMeter(ASGIMiddleware):
    """Counts and times requests by route, and echoes ``X-Request-ID`` for correlation."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Pass the request on and take notice of its answer."""
        started_s = perf_counter()
        correlation_id = correlation_id_of(_header(scope, b"x-request-id"))
        status = 500

        async def noticing_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if correlation_id:
                    MutableScopeHeaders.from_message(message)["x-request-id"] = correlation_id
            await send(message)

        try:
            await next_app(scope, receive, noticing_send)
        finally:
            route = scope.get("path_template") or "unmatched"
            self._metrics.request(str(route), status, perf_counter() - started_s)


class LoopbackOnly(ASGIMiddleware):
    """Keeps other sites' pages out: a browser on this machine is not a reason to trust the page it shows.

    A page elsewhere can make the browser send requests to loopback addresses (directly, or by pointing its own
    name at one). The former show in ``Origin``, the latter in ``Host``.
    """

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Refuse what a page of another site sends; pass on the rest."""
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if is_loopback_host(host) and (not origin or _is_of_this_machine(origin)):
            await next_app(scope, receive, send)
            return
        answer = problem(
            403,
            f"host {host!r}, origin {origin!r}: development mode answers this machine only",
            "ask for http://127.0.0.1 or http://localhost",
        )
        await answer.to_asgi_response(app=None, request=None)(scope, receive, send)  # type: ignore[arg-type]


def _is_of_this_machine(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False


def _header(scope: Scope, name: bytes) -> str:
    found = next((value for key, value in scope["headers"] if key.lower() == name), b"")
    return found.decode("latin-1")
