"""``millrace bench``: run a benchmark of the checkout that this is started in."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from millrace.app.commands.options import JsonOption
from millrace.base.errors import ConfigError, MillraceError

PASSED_ON: Final = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
"""How the command is read: what stands after the name is the benchmark's own."""

_HELP: Final = frozenset({"-h", "--help"})
_USAGE_ERROR: Final = 2


def bench(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="in-network, log, pipeline, sources, dpp, why, fan-out, restart, feed, world, loop, ann, rank, "
            "pre-ranker, batcher, swap, cache, join, features, learned (hours) or variants.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Run benchmarks/bench_NAME.py of the checkout this is started in and print its figures.

    What stands after NAME is passed on to the benchmark; `millrace bench NAME --help` lists what it takes. --json may
    stand before or after. Outputs are checked equal before anything is timed; figures are medians of interleaved runs.

    Example: millrace bench in-network --json

    Example: millrace bench loop --size tiny --hours 2
    """
    import msgspec

    from millrace.app.commands.printing import notes, print_table

    if name in _HELP:  # the help of what is named is the benchmark's, so that this command has no such option
        typer.echo(context.get_help())
        return
    own = [word for word in context.args if word != "--json"]
    as_json = as_json or len(own) < len(context.args)
    path = find_bench(name, Path.cwd())
    command = [sys.executable, str(path), *own]
    if not _HELP.isdisjoint(own):
        raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - as below
    notes().print(f"running {shlex.join([str(path.relative_to(Path.cwd())), *own])} …", style="dim", markup=False)
    done = subprocess.run(  # noqa: S603 - our own benchmark, by a name that was checked
        command, stdout=subprocess.PIPE, check=False
    )
    lines = done.stdout.decode().splitlines()
    if done.returncode == _USAGE_ERROR:  # it has told what it takes
        raise typer.Exit(_USAGE_ERROR)
    if done.returncode != 0 or not lines:
        raise MillraceError(
            "benchmark", value=name, problem=f"ended with code {done.returncode}", remedy="see its message above"
        )
    if as_json:
        typer.echo(lines[-1])
        return
    figures = msgspec.json.decode(lines[-1])
    rows: list[tuple[str, object]] = []
    for key, value in figures.items():
        if isinstance(value, dict):
            rows.extend((f"{key}.{inner}", amount) for inner, amount in value.items())
        else:
            rows.append((key, value))
    print_table(f"bench {name}", ("key", "value"), rows)


def find_bench(name: str, checkout: Path) -> Path:
    """Return the script of a benchmark, or raise `ConfigError` with the names that exist."""
    folder = checkout / "benchmarks"
    path = folder / f"bench_{name.replace('-', '_')}.py"
    if name.replace("-", "").replace("_", "").isalnum() and path.is_file():
        return path
    names = sorted(p.stem.removeprefix("bench_").replace("_", "-") for p in folder.glob("bench_*.py"))
    remedy = f"use one of {', '.join(names)}" if names else "start it in a checkout of Millrace"
    raise ConfigError("benchmark", value=name, problem=f"not found in {folder}", remedy=remedy)
