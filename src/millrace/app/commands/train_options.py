"""Values of `millrace train` that are checked before anything heavy is imported: what is mistyped is told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.base.actions import ActionSpace

SIZES: Final = ("nano", "small", "large")
"""Presets of `millrace.models.config`, as names: that module takes a while to import."""
VECTORS: Final = ("semantic-ids", "social")
"""What `millrace.app.home_vectors` makes."""


def known_size(size: str) -> str:
    """Return a size that is known; else raise `ConfigError`."""
    if size not in SIZES:
        raise ConfigError("--size", value=size, problem="not known", remedy=f"use one of {', '.join(SIZES)}")
    return size


def known_vectors(without: str) -> str:
    """Return names with commas that are all vectors that models read; else raise `ConfigError`."""
    for name in parted(without):
        if name not in VECTORS:
            raise ConfigError(
                "--without", value=name, problem="not what models read", remedy=f"use some of {', '.join(VECTORS)}"
            )
    return without


def parted(names: str) -> tuple[str, ...]:
    """Return names that were given with commas."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


def known_heads(names: str | None, actions: ActionSpace) -> tuple[str, ...]:
    """Return the actions that are named, in their order; none if none are.

    Raises
    ------
    ConfigError
        If nothing is named, or something that is not an action.
    """
    if names is None:
        return ()
    given = {name.strip() for name in names.split(",")}
    if unknown := sorted(given - set(actions.names)):
        raise ConfigError(
            "--heads", value=unknown[0], problem="not an action", remedy=f"use some of {', '.join(actions.names)}"
        )
    return tuple(name for name in actions.names if name in given)


SizeOption = Annotated[str, typer.Option(help="nano, small or large.", callback=known_size)]
