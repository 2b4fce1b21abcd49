"""What the commands of ``millrace simulate`` have in common: options, specs, progress, the table of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from millrace.app.commands.options import as_pairs
from millrace.app.settings import MillraceConfig, env_layer, find_home, load_settings
from millrace.base.config import from_pairs, load
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.app.simulation.run import Hooks, Progress, RunSpec
    from millrace.simulator.config import WorldConfig
    from millrace.simulator.policies import Policy
    from millrace.simulator.records import RunRecords


_RUNS: Final = "simulations"


class WorldSize(StrEnum):
    """How large a world is."""

    TINY = "tiny"
    DEMO = "demo"
    LARGE = "100k"


class MechanismChoice(StrEnum):
    """The laws of behaviour."""

    GATE = "gate"
    MULTI = "multi"
    SHIFTED = "shifted"


SizeOption = Annotated[
    WorldSize | None, typer.Option("--size", help="tiny, demo or 100k; default: the config's.", show_default=False)
]
MechanismOption = Annotated[
    MechanismChoice | None,
    typer.Option("--mechanism", help="gate, multi or shifted; default: the config's.", show_default=False),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Which world; default: the config's.", show_default=False)
]
HoursOption = Annotated[float, typer.Option("--hours", min=0.5, max=1_000, help="Virtual hours.")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for runs, and for worlds that are used again; default: simulations in the home, and without a "
        "home ~/.local/share/millrace/simulations.",
        show_default=False,
    ),
]
RunArgument = Annotated[Path, typer.Argument(help="A run of `millrace simulate run`: its folder, or its name.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=50, help="Posts that a page is asked for.")]
RegretOption = Annotated[
    float, typer.Option("--regret", min=0, max=1, help="Share of the pages that are held against the oracle.")
]
ProcessesOption = Annotated[
    int, typer.Option("--processes", min=1, max=64, help="Processes at a time; they change nothing but the time.")
]


PostsOption = Annotated[
    str | None,
    typer.Option(
        "--posts",
        help="Real texts for English posts: reddit-posts (in the folder MILLRACE_DATA), or that data set's folder.",
        show_default=False,
    ),
]


def world_config(
    home: Path | None,
    size: WorldSize | None,
    mechanism: MechanismChoice | None,
    seed: int | None,
    overrides: list[str] | None,
    posts: str | None = None,
) -> WorldConfig:
    """Return the world's config; where no home is given or found, the defaults under environment and options."""
    pairs = as_pairs(overrides)
    named = (
        ("world.size", size),
        ("world.mechanism", mechanism),
        ("world.seed", seed),
        ("world.posts_path", None if posts is None else _posts_folder(posts)),
    )
    pairs += [(key, str(value)) for key, value in named if value is not None]
    try:
        folder = find_home(home, os.environ, Path.cwd())
    except ConfigError:
        if home is not None:
            raise
        return load(MillraceConfig, (env_layer(os.environ), from_pairs("command line", pairs))).config.world
    return load_settings(folder, os.environ, pairs).config.world


def _posts_folder(posts: str) -> str:
    data = os.environ.get("MILLRACE_DATA", "")
    folder = Path(data) / posts if data and "/" not in posts else Path(posts)
    if not folder.exists():
        raise ConfigError(
            "option --posts",
            value=posts,
            problem="no such data set",
            remedy="set MILLRACE_DATA to the folder that has reddit-posts, or give its path",
        )
    return str(folder.resolve())


def runs_folder(out: Path | None, home: Path | None) -> Path:
    """Return where runs go: as given, else ``simulations`` in the home, else in the user's place for data.

    Never the current folder by itself: a run leaves a world and databases behind, and is found again from anywhere.
    """
    if out is not None:
        return out.resolve()
    try:
        return find_home(home, os.environ, Path.cwd()) / _RUNS
    except ConfigError:
        if home is not None:
            raise
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data if data.is_absolute() else Path.home() / ".local" / "share") / "millrace" / _RUNS


def named_run(run: Path) -> Path:
    """Return a run's folder: the path itself if it is there, else the run of that name where runs go by default."""
    there = runs_folder(None, None) / run
    return there if not run.exists() and there.is_dir() else run


def run_spec(
    config: WorldConfig,
    policies: tuple[Policy, ...],
    hours: float,
    out: Path,
    name: str | None,
    limit: int,
    regret: float,
) -> RunSpec:
    """Return what a run is to be, in a folder named after policies and world."""
    from millrace.app.simulation.homes import world_key
    from millrace.app.simulation.run import RunSpec

    out = out.resolve()
    own = name or f"{'-vs-'.join(policy.name for policy in policies)}-{world_key(config)}"
    return RunSpec(
        folder=str(out / own),
        worlds=str(out / "worlds"),
        world=config,
        policies=policies,
        hours=hours,
        limit=limit,
        regret_frac=regret,
    )


@contextmanager
def running(what: str) -> Iterator[Hooks]:
    """Give hooks that move a progress bar with live figures on stderr."""
    from millrace.app.commands.printing import notes, progress
    from millrace.app.simulation.run import Hooks

    notes().print(f"[dim]{what}[/]", soft_wrap=True)
    with progress("virtual slices") as step:
        n_pages = n_looks = 0

        def on_progress(done: Progress) -> None:
            nonlocal n_pages, n_looks
            n_pages += done.n_pages
            n_looks += done.n_looks
            step.total(done.n_slices_in_all)
            step.at(
                done.n_slices,
                f"{n_pages:,} pages, {n_looks:,} looks, satisfaction {done.satisfaction_per_look:+.3f} per look",
            )

        yield Hooks(on_progress=on_progress)


@contextmanager
def running_all(what: str) -> Iterator[Callable[[float], None]]:
    """Give a callback for the share that is done, which moves a progress bar on stderr."""
    from millrace.app.commands.printing import progress

    with progress(what, 1_000) as step:
        yield lambda share: step.at(round(1_000 * share), what)


def summary_rows(runs: Sequence[RunRecords]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return the columns and rows of the table of some runs: one row an arm."""
    from millrace.app.simulation.figures import SUMMARY, cell, run_figures

    rows: list[tuple[object, ...]] = []
    for records in runs:
        arms = run_figures(records)["arms"]
        rows.extend(tuple(cell(arm.get(key, "")) for key, _ in SUMMARY) for arm in arms)
    return tuple(title for _, title in SUMMARY), rows
