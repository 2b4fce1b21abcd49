"""Texts with columns in braces, ``"user-{uid}"``, and values as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_PLACE: Final = re.compile(r"\{([^{}]+)\}")


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names in braces, in order.

    Examples
    --------
    >>> placeholders("user-{uid} of {shop}")
    ('uid', 'shop')
    """
    return tuple(_PLACE.findall(template))


def filled(template: str, value_of: Callable[[str], str]) -> str:
    """Return the template with every name in braces replaced.

    Examples
    --------
    >>> filled("user-{uid}", {"uid": "7"}.__getitem__)
    'user-7'
    """
    return _PLACE.sub(lambda match: value_of(match[1]), template)


def as_text(value: object) -> str:
    """Return a plain value as the text to compare it by: ``true``, ``3``, and text without blanks around it.

    Examples
    --------
    >>> [as_text(value) for value in (True, 3, 3.0, 2.5, " a ")]
    ['true', '3', '3', '2.5', 'a']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
