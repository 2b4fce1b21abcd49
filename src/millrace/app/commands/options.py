"""Options that many commands share, and how they become settings."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from millrace.app.settings import HOME_VARIABLE, Settings, find_home, load_settings
from millrace.base.errors import ConfigError

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar=HOME_VARIABLE,
        help="Home folder; default: the current folder, if it has a millrace.toml.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one config value, such as server.port=9000; may be repeated.",
        show_default=False,
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65_535, help="TCP port; 0 takes a free one.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def open_settings(home: Path | None, overrides: list[str] | None = None, *, checks_params: bool = False) -> Settings:
    """Return the settings that a command's options, the environment and the home folder add up to.

    Parameters
    ----------
    home
        The command's ``--home``.
    overrides
        The command's ``--set``.
    checks_params
        Whether to check params against the pipelines too, which takes building them.
    """
    folder = find_home(home, os.environ, Path.cwd())
    pairs = as_pairs(overrides)
    if checks_params:
        return load_settings(folder, os.environ, pairs, param_problems)
    return load_settings(folder, os.environ, pairs)


def home_words(home: Path | None) -> str:
    """Return what has to follow the commands that we recommend: `` --home my-feed``; empty where it goes without."""
    try:
        without = find_home(None, os.environ, Path.cwd())
    except ConfigError:
        without = None
    is_found = home is None or (Path.cwd() / home).resolve() == without
    return "" if is_found else f" --home {shlex.quote(str(home))}"


def param_problems(settings: Settings) -> tuple[str, ...]:
    """Return what is wrong with the config's params: names that no pipeline knows, values out of bounds."""
    from millrace.app.wiring import check_params

    try:
        check_params(settings)
    except ConfigError as error:
        return error.problems
    return ()


def with_port(overrides: list[str] | None, port: int | None) -> list[str]:
    """Return the overrides of a command line that may also name a port."""
    return [*(overrides or ()), *([] if port is None else [f"server.port={port}"])]


def as_pairs(overrides: list[str] | None) -> list[tuple[str, str]]:
    """Return ``KEY=VALUE`` texts as pairs."""
    pairs = []
    for text in overrides or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(
                "option --set", value=text, problem="not KEY=VALUE", remedy="write --set server.port=9000"
            )
        pairs.append((key.strip(), value.strip()))
    return pairs


def settings_or_defaults(home: Path | None) -> Settings:
    """Return the settings of the home folder; where none is given or found, the defaults."""
    try:
        folder = find_home(home, os.environ, Path.cwd())
    except ConfigError:
        if home is not None:
            raise
        return Settings(Path.cwd())
    return load_settings(folder, os.environ)
