"""URLs that people may see: without user names, passwords and query parameters."""

from __future__ import annotations

from typing import Final

_HIDDEN: Final = "***"


def without_secrets(text: str) -> str:
    """Return a URL with ``***`` for its user, its password and its query; a text that is no URL as it is.

    Everything before the last ``@`` counts as user and password, so that a password with characters that a URL
    should have escaped is hidden too.
    """
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    userinfo, at, place = rest.rpartition("@")
    place, question, _ = place.partition("?")
    shown_user = f"{_HIDDEN}@" if at or userinfo else ""
    return f"{scheme}://{shown_user}{place}{f'?{_HIDDEN}' if question else ''}"
