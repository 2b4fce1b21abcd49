"""The optional packages of the judge, imported when they are first needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from millrace.base.errors import MillraceError


def require(module: str) -> ModuleType:
    """Return a module of the ``simulate`` extra.

    Raises
    ------
    MillraceError
        If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MillraceError(
            "package",
            value=package,
            problem="is not installed, and judging a simulated run needs it",
            remedy="install it: pip install -e '.[simulate]'",
        ) from error
