"""``millrace simulate policies``, ``report`` and ``validate``: the judge at work, and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption
from millrace.app.commands.simulate_options import (
    OutOption,
    ProcessesOption,
    RegretOption,
    SizeOption,
    named_run,
    running_all,
    runs_folder,
    world_config,
)


def policies(
    size: SizeOption = None,
    mechanisms: Annotated[str, typer.Option("--mechanisms", help="Laws of behaviour, with commas.")] = (
        "gate,multi,shifted"
    ),
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="How many worlds of each.")] = 3,
    feeds: Annotated[str, typer.Option("--feeds", help="Feeds to compare, with commas.")] = (
        "random,chronological,popular,home,oracle,oracle_all"
    ),
    max_pages: Annotated[
        int, typer.Option("--max-pages", min=10, max=5_000, help="Pages of each run, to the end of its slice.")
    ] = 2_000,
    out: OutOption = None,
    regret: RegretOption = 0.02,
    processes: ProcessesOption = 2,
    as_json: JsonOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
) -> None:
    """Compare feeds by true utility: random, chronological, popular, the home feed, and the oracle.

    The oracle orders the home feed's own candidates by the truth; oracle_all chooses from all posts. Every world is the
    same for all feeds, people and luck included.

    Example: millrace simulate policies --size tiny --seeds 1 --max-pages 30
    """
    from typing import cast, get_args

    from millrace.app.commands.printing import print_json, print_table
    from millrace.app.simulation.policies import rows, run_policies, table
    from millrace.base.errors import ConfigError
    from millrace.simulator.config import MechanismName
    from millrace.simulator.policies import FEEDS, FeedName

    config = world_config(home, size, None, None, overrides)
    for option, text, known in (
        ("--mechanisms", mechanisms, get_args(MechanismName)),
        ("--feeds", feeds, FEEDS),
    ):
        for name in text.split(","):
            if name not in known:
                raise ConfigError(
                    f"option {option}", value=name, problem="not known", remedy=f"use some of {', '.join(known)}"
                )
    with running_all("policies") as on_progress:
        records = run_policies(
            config,
            [cast("MechanismName", name) for name in mechanisms.split(",")],
            [config.seed + i for i in range(seeds)],
            [cast("FeedName", name) for name in feeds.split(",")],
            runs_folder(out, home),
            max_pages=max_pages,
            regret_frac=regret,
            n_processes=processes,
            on_progress=on_progress,
        )
    figures = table(records)
    if as_json:
        print_json(figures)
        return
    print_table("true utility by policy", *rows(figures))
    for mechanism, found in figures.items():
        for other in ("chronological", "popular"):
            for ahead in found["home_against"].get(other, []):
                typer.echo(
                    f"{mechanism}, seed {ahead['seed']}: home is worth {ahead['difference']:+.3f} a page more than "
                    f"{other} (95 %: {ahead['low']:+.3f} to {ahead['high']:+.3f}; {ahead['n']} people)"
                )


def report(
    runs: Annotated[list[Path], typer.Argument(help="Runs, by folder or by name, the one to compare with first.")],
    out: Annotated[Path, typer.Option("--out", help="Where the page and its figures go.")] = Path("report"),
    as_json: JsonOption = False,
) -> None:
    """Judge runs, and write one HTML page with plots, and the same figures as JSON.

    Example: millrace simulate report home-gate-tiny-1-5f0c9d21 --out report
    """
    from millrace.app.commands.printing import out as console
    from millrace.app.commands.printing import print_json, progress
    from millrace.simulator.judge.report import FIGURES, PAGE, write_report
    from millrace.simulator.records import RunRecords

    with progress("judging"):
        found = {path.name: RunRecords.read(path) for path in map(named_run, runs)}
        made = write_report(next(iter(found.values())) if len(found) == 1 else found, out)
    if as_json:
        print_json(made)
    else:
        console().print(f"{out / PAGE}\n{out / FIGURES}", soft_wrap=True)


def validate(
    checks: Annotated[
        str, typer.Option("--checks", help="Which, by number, with commas; default: all seven.", show_default=False)
    ] = "1,2,3,4,5,6,7",
    users: Annotated[
        int, typer.Option("--users", min=50, max=100_000, help="People of the larger checks' world.")
    ] = 800,
    hours: Annotated[float, typer.Option("--hours", min=1, max=200, help="Virtual hours of its runs.")] = 16.0,
    variants: Annotated[int, typer.Option("--variants", min=5, max=20, help="Variants of the ranker.")] = 20,
    out: OutOption = None,
    processes: ProcessesOption = 2,
    as_json: JsonOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
) -> None:
    """Judge the judge: does it find what is planted, and nothing where nothing is? Each check with its number.

    Example: millrace simulate validate --checks 1,4
    """
    from dataclasses import replace

    import msgspec

    from millrace.app.commands.printing import notes, print_json, print_table
    from millrace.app.simulation.validation.check import Bench
    from millrace.app.simulation.validation.suite import CHECKS
    from millrace.base.errors import ConfigError

    wanted = checks.split(",")
    for number in wanted:
        if number not in CHECKS:
            raise ConfigError(
                "option --checks", value=number, problem="no such check", remedy=f"use {', '.join(CHECKS)}"
            )
    config = msgspec.structs.replace(world_config(home, None, None, None, overrides), n_users=users)
    bench = Bench(
        folder=runs_folder(out, home) / "validation",
        world=config,
        hours=hours,
        n_processes=processes,
        n_variants=variants,
        on_progress=lambda _what, _share: None,
    )
    bench.fresh()
    found = []
    for number in wanted:
        with running_all(f"check {number}") as tell:
            found.append(CHECKS[number](replace(bench, on_progress=lambda _what, share: tell(share))))
        if not as_json:
            notes().print(f"[dim]{found[-1].name}: {found[-1].number}[/]", soft_wrap=True)
    if as_json:
        print_json({"checks": found, "passed": all(check.passed is not False for check in found)})
    else:
        verdict = {True: "passed", False: "FAILED", None: "reported"}
        print_table("the judge judged", ("check", "", "figure"), [(c.name, verdict[c.passed], c.number) for c in found])
    if any(check.passed is False for check in found):
        raise typer.Exit(1)
