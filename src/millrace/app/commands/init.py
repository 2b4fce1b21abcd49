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
    from rich.markup import escape

    from millrace.app.commands.options import home_words
    from millrace.app.commands.printing import out

    settings, is_new = make_home(home)
    console = out()
    console.print(f"{'Made' if is_new else 'Found'} [bold]{escape(str(settings.home))}[/] ({CONFIG_NAME}, data/)")
    where = home_words(home)
    console.print("Next:" if not settings.log_path.exists() else "It holds events already. Next:")
    steps = (
        ("demo", "a made-up world to look at"),
        ("ingest FILE", "your own events, one JSON object a line"),
        ("import DATASET PATH", "a public data set"),
    )
    if settings.log_path.exists():
        steps = (("serve", "feeds over HTTP"), ("timeline", "a page, here and now"), ("doctor", "is all well?"))
    for command, what in steps:
        console.print(f"  [bold]millrace {escape(command + where)}[/]  [dim]{what}[/]", soft_wrap=True)


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
