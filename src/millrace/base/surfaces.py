"""`Surface`: where in a product something happened, as one byte that histories keep and models read.

Events name a surface in their context, in words; what is known here has a code of its own. Codes are part of the format
of checkpoints, logged features and models: surfaces are only ever appended.
"""

from __future__ import annotations

import enum
from typing import Final


class Surface(enum.IntEnum):
    """A place where posts are met."""

    UNKNOWN = 0
    HOME = 1
    FOLLOWING = 2
    PROFILE = 3
    SEARCH = 4
    POST = 5
    NOTIFICATION = 6
    OTHER = 7

    @property
    def label(self) -> str:
        """The name on the wire: ``"home"``."""
        return self.name.lower()


N_SURFACES: Final = len(Surface)

_ALIASES: Final = {"": Surface.UNKNOWN, "push": Surface.NOTIFICATION, "thread": Surface.POST}
_CODES: Final = {surface.label: int(surface) for surface in Surface} | {name: int(s) for name, s in _ALIASES.items()}


def surface_code(name: str) -> int:
    """Return the code of a surface's name: 0 where none was said, that of `Surface.OTHER` for a name not known here.

    Examples
    --------
    >>> surface_code("home"), surface_code(" Push"), surface_code(""), surface_code("tv_app")
    (1, 6, 0, 7)
    """
    code = _CODES.get(name)
    return _CODES.get(name.strip().casefold(), int(Surface.OTHER)) if code is None else code
