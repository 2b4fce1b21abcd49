"""``X-Request-ID``: the client's own id of a request, echoed and never trusted for more than telling requests apart."""

from __future__ import annotations

from typing import Final

MAX_CHARS: Final = 128


def correlation_id_of(header: str) -> str:
    """Return the id as it may be used and echoed; empty where there is none, or none that can be."""
    return header if len(header) <= MAX_CHARS and header.isascii() and header.isprintable() else ""
