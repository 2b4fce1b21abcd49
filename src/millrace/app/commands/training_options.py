"""What the commands that train share: options, and what has to be installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.base.errors import ConfigError

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


def need_torch() -> None:
    """Raise `ConfigError` unless torch is installed."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "training", value="torch", problem="not installed", remedy="pip install '.[train]', or make setup"
        )
