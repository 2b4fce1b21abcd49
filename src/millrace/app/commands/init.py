"""``millrace init``: a home folder with a complete, commented config."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from millrace.app.settings import CONFIG_NAME, HOME_VARIABLE, Settings, load_settings


def init(
    home: Annotated[
        Path, typer.Option("--home", envvar=HOME_VARIABLE, help="The folder to make; default: the current one.")
    ] = Path(),
) -> None:
    """Make a home folder: a commented millrace.toml, and room for data.

    Running it again changes nothing.

    Example: millrace init --home my-feed
    """
    from millrace.app.commands.printing import out

    settings, is_new = make_home(home)
    console = out()
    console.print(f"{'Made' if is_new else 'Found'} [bold]{settings.home}[/] ({CONFIG_NAME}, data/)")
    console.print("Next: [bold]millrace demo[/], or [bold]millrace import[/], or [bold]millrace ingest[/]")


def make_home(home: Path) -> tuple[Settings, bool]:
    """Make a home folder where there is none; return its settings and whether it is new."""
    from millrace.app.config_template import config_template

    home = home.resolve()
    path = home / CONFIG_NAME
    is_new = not path.exists()
    home.mkdir(parents=True, exist_ok=True)
    if is_new:
        path.write_text(config_template(), encoding="utf-8")
    settings = load_settings(home, os.environ)
    settings.data_dir.mkdir(exist_ok=True)
    return settings, is_new
