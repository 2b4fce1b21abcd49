"""``millrace simulate describe``: is the world like the real one? Its marginals beside those of public data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, as_pairs
from millrace.app.settings import MillraceConfig, env_layer, find_home, load_settings
from millrace.base.config import from_pairs, load
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.events.envelope import AnyEvent
    from millrace.simulator.config import WorldConfig

DATA_VARIABLE: Final = "MILLRACE_DATA"
_NOW_MS: Final = 1_800_000_000_000
"""The end of the world's history. It decides no marginal, and a fixed one gives everybody the same table."""


class WorldSize(StrEnum):
    """How large the world is."""

    TINY = "tiny"
    DEMO = "demo"
    LARGE = "100k"


def describe(
    size: Annotated[
        WorldSize | None, typer.Option("--size", help="tiny, demo or 100k; default: the config's.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Which world; default: the config's.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--events", help="Describe this NDJSON file of events, not a world.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar=DATA_VARIABLE, help="Folder of public data sets.", show_default=False),
    ] = None,
    is_full: Annotated[bool, typer.Option("--full", help="Every statistic, a line for each data set.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
) -> None:
    """Print the world's marginal distributions beside those of real data.

    Degrees, cascades, clicks by position, activity, text lengths and rhythms are computed from events alone, by the
    same functions on both sides.

    Example: millrace simulate describe --size demo --data ../shared/data
    """
    from millrace.app.commands.printing import notes, print_json, print_table
    from millrace.simulator.marginals import table
    from millrace.simulator.world import simulate_history

    if data is not None and not data.is_dir():
        raise ConfigError(
            "option --data", value=str(data), problem="is no folder", remedy=f"correct it, or unset {DATA_VARIABLE}"
        )
    if file is not None:
        what, events = file.name, _read(file)
    else:
        config = _world(home, size, seed, overrides)
        what, events = f"world {config.size}, seed {config.seed}", simulate_history(config, _NOW_MS)
    rows = table.describe(events, data)
    if as_json:
        print_json({"what": what, "rows": [row.as_dict() for row in rows]})
    elif is_full:
        print_table(f"{what}, and real data", table.COLUMNS, [row.cells() for row in rows])
    else:
        print_table(f"{what}, and real data", table.SHORT_COLUMNS, table.short_cells(rows))
    if data is None:
        notes().print(table.HOW_TO_COMPARE)


def _world(home: Path | None, size: WorldSize | None, seed: int | None, overrides: list[str] | None) -> WorldConfig:
    """Return the world's config; where no home is given or found, the defaults under environment and options."""
    pairs = as_pairs(overrides)
    pairs += [("world.size", str(size))] if size is not None else []
    pairs += [("world.seed", str(seed))] if seed is not None else []
    try:
        folder = find_home(home, os.environ, Path.cwd())
    except ConfigError:
        if home is not None:
            raise
        return load(MillraceConfig, (env_layer(os.environ), from_pairs("command line", pairs))).config.world
    return load_settings(folder, os.environ, pairs).config.world


def _read(file: Path) -> Iterator[AnyEvent]:
    from millrace.events.codec import EventCodec
    from millrace.events.importers.rows import lines_of, open_stream
    from millrace.events.registry import EventRegistry

    codec = EventCodec(EventRegistry())
    with open_stream(file) as stream:
        for line in lines_of(stream):
            if line.strip():
                yield codec.decode_json(line)
