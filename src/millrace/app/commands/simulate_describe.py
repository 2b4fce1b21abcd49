"""``millrace simulate describe``: is the world like the real one? Its marginals beside those of public data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption
from millrace.app.commands.simulate_options import MechanismOption, SeedOption, SizeOption, world_config
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.events.envelope import AnyEvent

DATA_VARIABLE: Final = "MILLRACE_DATA"
_NOW_MS: Final = 1_800_000_000_000
"""The end of the world's history. It decides no marginal, and a fixed one gives everybody the same table."""


def describe(
    size: SizeOption = None,
    mechanism: MechanismOption = None,
    seed: SeedOption = None,
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
        config = world_config(home, size, mechanism, seed, overrides)
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


def _read(file: Path) -> Iterator[AnyEvent]:
    from millrace.events.codec import EventCodec
    from millrace.events.importers.rows import lines_of, open_stream
    from millrace.events.registry import EventRegistry

    codec = EventCodec(EventRegistry())
    with open_stream(file) as stream:
        for line in lines_of(stream):
            if line.strip():
                yield codec.decode_json(line)
