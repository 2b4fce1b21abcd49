"""``millrace bench``: run a benchmark of the checkout that this is started in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from millrace.app.commands.options import JsonOption
from millrace.base.errors import ConfigError, MillraceError


def bench(
    name: Annotated[
        str,
        typer.Argument(
            help="in-network, log, pipeline, sources, dpp, why, fan-out, restart, feed, world, loop, ann, rank, "
            "pre-ranker, batcher, swap or learned (hours)."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Run benchmarks/bench_NAME.py of the checkout this is started in and print its figures.

    Outputs are checked equal before anything is timed; figures are medians of interleaved runs.

    Example: millrace bench in-network --json
    """
    import msgspec

    from millrace.app.commands.printing import notes, print_table

    path = find_bench(name, Path.cwd())
    notes().print(f"[dim]running {path.relative_to(Path.cwd())} …[/]")
    done = subprocess.run(  # noqa: S603 - our own benchmark, by a name that was checked
        [sys.executable, str(path)], stdout=subprocess.PIPE, check=False
    )
    lines = done.stdout.decode().splitlines()
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
