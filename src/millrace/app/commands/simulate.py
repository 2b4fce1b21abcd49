"""``millrace simulate``: worlds with known truth, before this feed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands import simulate_describe, simulate_judge, simulate_learned, simulate_recall
from millrace.app.commands.options import HomeOption, JsonOption, SetOption
from millrace.app.commands.simulate_options import (
    HoursOption,
    LimitOption,
    MechanismOption,
    OutOption,
    PostsOption,
    ProcessesOption,
    RegretOption,
    SeedOption,
    SizeOption,
    run_spec,
    running,
    runs_folder,
    summary_rows,
    world_config,
)

if TYPE_CHECKING:
    from millrace.simulator.policies import Policy

app = typer.Typer(
    help="A world with known truth, to judge the whole feed by.", no_args_is_help=True, rich_markup_mode="rich"
)
app.command("describe")(simulate_describe.describe)
app.command("policies")(simulate_judge.policies)
app.command("report")(simulate_judge.report)
app.command("learned")(simulate_learned.learned)
app.command("recall")(simulate_recall.recall)
app.command("validate")(simulate_judge.validate)

_PolicyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="NAME=CONFIG",
        help="A feed and what it has that differs: home, or b=home,params.value.weight_like=2, or b=file.toml.",
        show_default=False,
    ),
]


@app.command("generate")
def generate(
    file: Annotated[Path, typer.Argument(help="Where the events go, one JSON object a line; - for standard output.")],
    size: SizeOption = None,
    mechanism: MechanismOption = None,
    seed: SeedOption = None,
    posts: PostsOption = None,
    to_home: Annotated[
        Path | None,
        typer.Option(
            "--to-home", help="Also make this home, in virtual time, with the history in it.", show_default=False
        ),
    ] = None,
    home: HomeOption = None,
    overrides: SetOption = None,
) -> None:
    """Write a world's history as events, and perhaps a home that holds it.

    What a small network did in the days before a feed takes over. `millrace ingest` takes the file in; a home of
    --to-home is ready for `millrace serve --virtual-time` and `millrace simulate run --url`.

    Example: millrace simulate generate history.ndjson --size tiny
    """
    import sys

    from millrace.app.commands.printing import count, notes, progress
    from millrace.app.simulation.homes import START_MS
    from millrace.events.codec import EventCodec
    from millrace.events.registry import EventRegistry
    from millrace.simulator.world import simulate_history

    config = world_config(home, size, mechanism, seed, overrides, posts)
    encode = EventCodec(EventRegistry()).encode_json
    n_events = 0
    with progress("making a world") as step:
        out = sys.stdout.buffer if str(file) == "-" else file.open("wb")
        try:
            for event in simulate_history(config, START_MS):
                out.write(encode(event) + b"\n")
                n_events += 1
                step.advance()
        finally:
            if out is not sys.stdout.buffer:
                out.close()
    notes().print(f"{count(n_events, 'event')}, seed {config.seed}, mechanism {config.mechanism}")
    if to_home is not None:
        from millrace.app.simulation.http_run import server_home

        settings = server_home(
            run_spec(config, parse_policies(None), 1, to_home.resolve().parent, None, 20, 0), to_home
        )
        notes().print(f"home {settings.home}: millrace serve --virtual-time --home {to_home}", soft_wrap=True)


@app.command("run")
def run(
    policy: _PolicyOption = None,
    hours: HoursOption = 24.0,
    size: SizeOption = None,
    mechanism: MechanismOption = None,
    seed: SeedOption = None,
    posts: PostsOption = None,
    out: OutOption = None,
    name: Annotated[str | None, typer.Option("--name", help="The run's folder in --out.", show_default=False)] = None,
    limit: LimitOption = 20,
    regret: RegretOption = 0.05,
    processes: ProcessesOption = 1,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="A server of `millrace serve --virtual-time` to use instead of this process.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
) -> None:
    """Let people of a world use the feed for some virtual hours, and tell what it was worth to them.

    Interrupted, it goes on where it was when the same command is given again. With several policies each viewer has
    one of them. The folder is told at the beginning; the records for the judge are in OUT/NAME/records.

    Example: millrace simulate run --size tiny --hours 6
    """
    import msgspec

    from millrace.app.commands.printing import notes, print_json, print_table
    from millrace.app.simulation.run import run as make_run
    from millrace.simulator.records import RunRecords

    config = world_config(home, size, mechanism, seed, overrides, posts)
    policies = parse_policies(policy)
    spec = run_spec(config, policies, hours, runs_folder(out, home), name, limit, regret)
    if url is not None:
        from millrace.app.simulation.http_run import run_over_http

        if name is None:  # a run in process has the folder of the plain name, and would be taken for this one
            spec = msgspec.structs.replace(spec, folder=f"{spec.folder}-over-http")
        with running(f"{spec.folder} over {url}") as hooks:
            run_over_http(spec, url, hooks)
    else:
        with running(spec.folder) as hooks:
            make_run(spec, processes, hooks)
    records = RunRecords.read(Path(spec.folder))
    made_h = (records.meta.ended_ms - records.meta.began_ms) / 3_600_000
    if made_h > hours + 0.5:
        notes().print(f"this folder's run is {made_h:g} h long already; --name begins another", soft_wrap=True)
    if as_json:
        from millrace.app.simulation.figures import run_figures

        print_json({"folder": spec.folder, **run_figures(records)})
    else:
        print_table(f"run {spec.folder}", *summary_rows([records]))


@app.command("twin")
def twin(
    a: Annotated[str, typer.Argument(help="The policy to compare with, as for --policy.")],
    b: Annotated[str, typer.Argument(help="The policy that is to be judged.")],
    hours: HoursOption = 24.0,
    size: SizeOption = None,
    mechanism: MechanismOption = None,
    seed: SeedOption = None,
    posts: PostsOption = None,
    out: OutOption = None,
    limit: LimitOption = 20,
    regret: RegretOption = 0.05,
    processes: ProcessesOption = 2,
    as_json: JsonOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
) -> None:
    """Run two policies on the same world with the same luck; the difference is exact for every person.

    Example: millrace simulate twin home likes=home,params.value.weight_like=2 --size tiny --hours 6
    """
    from millrace.app.commands.printing import print_json, print_table
    from millrace.app.commands.simulate_options import running_all
    from millrace.app.simulation.cells import run_cells
    from millrace.app.simulation.figures import twin_figures, twin_rows

    config = world_config(home, size, mechanism, seed, overrides, posts)
    pair = parse_policies([a, b])
    folder = runs_folder(out, home)
    specs = [run_spec(config, (policy,), hours, folder, None, limit, regret) for policy in pair]
    with running_all(f"{pair[0].name} and {pair[1].name}") as on_progress:
        first, second = run_cells(specs, processes, on_progress)
    figures = twin_figures(first, second)
    if as_json:
        print_json(figures)
    else:
        print_table("two runs", *summary_rows([first, second]))
        print_table(f"{pair[1].name} against {pair[0].name}, per person", *twin_rows(figures))


@app.command("ab")
def ab(
    a: Annotated[str, typer.Argument(help="The policy of half of the people, as for --policy.")],
    b: Annotated[str, typer.Argument(help="The policy of the other half.")],
    hours: HoursOption = 24.0,
    size: SizeOption = None,
    mechanism: MechanismOption = None,
    seed: SeedOption = None,
    posts: PostsOption = None,
    out: OutOption = None,
    limit: LimitOption = 20,
    regret: RegretOption = 0.05,
    processes: ProcessesOption = 1,
    as_json: JsonOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
) -> None:
    """Split the people of one world between two policies, as an operator would have to.

    Example: millrace simulate ab home random --size tiny --hours 6
    """
    from millrace.app.commands.printing import print_json, print_table
    from millrace.app.simulation.figures import ab_figures, ab_rows
    from millrace.app.simulation.run import run as make_run
    from millrace.simulator.records import RunRecords

    config = world_config(home, size, mechanism, seed, overrides, posts)
    spec = run_spec(config, parse_policies([a, b]), hours, runs_folder(out, home), None, limit, regret)
    with running(spec.folder) as hooks:
        make_run(spec, processes, hooks)
    records = RunRecords.read(Path(spec.folder))
    figures = ab_figures(records)
    if as_json:
        print_json(figures)
    else:
        print_table("one run, two arms", *summary_rows([records]))
        print_table("naive A/B estimate", *ab_rows(figures))


def parse_policies(texts: list[str] | None) -> tuple[Policy, ...]:
    """Return the policies of a command line; the home feed where none is named."""
    from millrace.base.errors import ConfigError
    from millrace.simulator.policies import parse_policy

    policies = tuple(parse_policy(text) for text in texts or ["home"])
    names = [policy.name for policy in policies]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError("policy", value=name, problem="two have this name", remedy="name one NAME=FEED")
    return policies
