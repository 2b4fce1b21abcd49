"""What the commands that train share: options, and values that are checked before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path
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


PromoteOption = Annotated[
    bool, typer.Option("--promote", help="Let it serve: publish it in the registry, which running servers follow.")
]

ReplayOption = Annotated[
    bool,
    typer.Option("--replay", help="Encode every page anew from the log: for whoever changes features. Takes long."),
]

FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Begin anew, even if a run that was interrupted could go on.")
]

SemanticIdsOption = Annotated[
    Path | None,
    typer.Option(help="Folder that `train semantic-ids` wrote: posts' codes are read too.", show_default=False),
]

SizeOption = Annotated[str, typer.Option(help="nano, small or large.", callback=known_size)]


def need_torch() -> None:
    """Raise `ConfigError` unless torch is installed."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "training", value="torch", problem="not installed", remedy="pip install -e '.[train]', or make setup"
        )
