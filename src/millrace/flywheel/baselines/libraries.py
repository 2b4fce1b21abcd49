"""Libraries that only baselines need, imported when one is fitted."""

from __future__ import annotations

import importlib
from typing import Any

from millrace.base.errors import ConfigError


def library(name: str) -> Any:
    """Return a module of an optional library.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            "baseline",
            value=name.partition(".")[0],
            problem=f"not installed ({error})",
            remedy="pip install -e '.[bench]', or leave this baseline out",
        ) from error
