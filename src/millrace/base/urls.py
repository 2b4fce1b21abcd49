"""URLs that people may see: without user names, passwords and query parameters."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_HIDDEN: Final = "***"
_LEAST_CHARS: Final = 3
"""Shorter pieces of a password are too common to be looked for in a text."""


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


def hide_secrets(said: str, url: str) -> str:
    """Return what a driver said of a URL it was given, without the URL's password and query.

    Drivers repeat what they cannot read: a URL whole, or what stands at a place where they look for a host.
    """
    said = said.replace(url, without_secrets(url) if "://" in url else _HIDDEN)
    userinfo = url.partition("://")[2].rpartition("@")[0]
    secrets = [userinfo.partition(":")[2], url.partition("?")[2]]
    if "://" not in url:  # keywords and values, as in "host=... password=..."
        secrets = re.findall(r"password\s*=\s*(\S+)", url)
    pieces = {piece for secret in secrets for piece in (secret, unquote(secret), *re.split(r"[@:/?#&=]", secret))}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= _LEAST_CHARS:
            said = said.replace(piece, _HIDDEN)
    return said
