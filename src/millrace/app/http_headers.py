"""Headers that every answer carries, errors too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

from millrace.base.clock import Clock

NOW_HEADER: Final = "x-millrace-now"
"""Event time when the answer was made, in epoch milliseconds: ages and the times of events are relative to it."""

_ALWAYS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    # Pages of ours hold no script of their own and load none from elsewhere; posts may show pictures from anywhere.
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: https:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}


def header_adder(clock: Clock) -> Callable[[Message, Scope], Awaitable[None]]:
    """Return what adds the headers to an answer that is about to be sent; a ``before_send`` hook."""

    async def add_headers(message: Message, scope: Scope) -> None:
        if message["type"] != "http.response.start":
            return
        headers = MutableScopeHeaders.from_message(message)
        for name, value in _ALWAYS.items():
            headers.setdefault(name, value)
        if str(scope.get("path", "")).startswith("/api/"):
            # Answers belong to whoever asked, and a page is never the same twice.
            headers.setdefault("cache-control", "no-store")
            headers[NOW_HEADER] = str(clock.now_ms())

    return add_headers
