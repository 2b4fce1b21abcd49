"""The guard of every route: who asks, and whether the route is for them. Before anything else is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Components, SecurityRequirement, SecurityScheme

from millrace.app.access import Access, Caller, Gate
from millrace.app.http_address import is_loopback_host

_KEY: Final = "caller"
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

OPEN: Final = {"access": Access.OPEN}
READ: Final = {"access": Access.READ}
SEND: Final = {"access": Access.SEND}
METRICS: Final = {"access": Access.METRICS}
ADMIN: Final = {"access": Access.ADMIN}
"""What a route is declared with: ``@get("/healthz", opt=OPEN)``."""

Connection = ASGIConnection[Any, Any, Any, Any]


def make_guard(gate: Gate) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
    """Return the guard that lets callers through to the routes that are for them."""

    async def guard(connection: Connection, handler: BaseRouteHandler) -> None:  # a plain one would get a thread
        access = handler.opt.get("access", Access.ADMIN)
        if access is Access.OPEN:
            return
        authorizations = connection.headers.getall("authorization", [])
        api_keys = connection.headers.getall("x-api-key", [])
        if access is Access.METRICS and not (authorizations or api_keys) and _is_of_this_machine(connection):
            return
        caller = gate.caller(authorizations, api_keys)
        caller.check(access)
        connection.state[_KEY] = caller

    return guard


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Return who asks; on routes that are not open."""
    caller: Caller = request.state[_KEY]
    return caller


SCHEMES: Final = Components(
    security_schemes={
        "token": SecurityScheme(
            type="http",
            scheme="bearer",
            bearer_format="JWT",
            description="A viewer's token (`millrace token VIEWER`), or an API key (`millrace keys add`)",
        ),
        "key": SecurityScheme(
            type="apiKey", name="X-API-Key", security_scheme_in="header", description="An API key, the other way"
        ),
    }
)
_ANY: Final[list[SecurityRequirement]] = [{"token": []}, {"key": []}]


def security_of(gate: Gate, opt: dict[str, Access]) -> list[SecurityRequirement] | None:
    """Return what a route's entry in the OpenAPI document says of credentials."""
    access = opt["access"]
    if gate.mode == "development" or access is Access.OPEN:
        return None
    return [*_ANY, {}] if access is Access.METRICS else _ANY


def _is_of_this_machine(connection: Connection) -> bool:
    """Whether a program on this machine asks, and not a proxy on it for somebody else."""
    client, headers = connection.client, connection.headers
    return (
        client is not None
        and is_loopback_host(client.host)
        and is_loopback_host(headers.get("host", ""))
        and not any(name in headers for name in _FORWARDED)
    )
