"""``millrace train``: models that learn from a home's log."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.app.commands import train_vectors
from millrace.app.commands.distill import distill
from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.commands.train_options import (
    FreshOption,
    ReplayOption,
    SizeOption,
    known_vectors,
    need_torch,
    parted,
)
from millrace.app.commands.train_ranker import ranker, show_ranker
from millrace.app.commands.train_retrieval import retrieval
from millrace.base.errors import ConfigError

app = typer.Typer(help="Train models on what the log says. Needs the extra train.")


@app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    hours: Annotated[
        float | None,
        typer.Option(min=0.1, help="Newest hours that are learned from; default: all.", show_default=False),
    ] = None,
    size: SizeOption = "nano",
    epochs: Annotated[float, typer.Option(min=0.01, help="How often the ranker sees every page.")] = 3.0,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights and of the order of pages.")] = 1,
    promote: Annotated[
        bool, typer.Option("--promote", help="Let those serve that are worth it, judged on newer pages.")
    ] = False,
    without: Annotated[
        str,
        typer.Option(help="What is not made, and not read, with commas: semantic-ids.", callback=known_vectors),
    ] = "",
    fresh: FreshOption = False,
    replay: ReplayOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train models on what the log says: all that the home feed is made with, or one of them by name.

    Without a name: ranker, retrieval and, distilled from the ranker, pre-ranker, from one reading of the log, published
    in the registry; before them semantic ids, which the towers read. With --promote those serve that are
    worth it: a ranker that knows more than counters, towers that find more than what is popular, a pre-ranker that says
    about what its ranker says. Needs the extra train.
    A run that is interrupted goes on where it was, on the pages that it had read, if it is asked for the same again.
    Works with and without a running server.

    Example: millrace train --promote
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    need_torch()
    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.training_all import train_home
    from millrace.app.training_status import telling

    settings = open_settings(home, overrides, checks_params=True)
    with telling(settings, progress) as shown:
        trained = train_home(
            settings,
            shown,
            hours=hours,
            size=size,
            epochs=epochs,
            seed=seed,
            promotes=promote,
            without=parted(without),
            begins_anew=fresh,
            replays=replay,
        )
    if as_json:
        print_json(trained)
        return
    show_ranker(trained.ranker)
    if trained.retrieval is not None:
        print_table(
            "what viewers wanted on the newest pages, among the nearest",
            ("retriever", "wanted", "at 100", "at 500"),
            [
                (name, found.n, f"{found.at[100]:.3f}", f"{found.at[500]:.3f}")
                for name, found in trained.retrieval.held_out.items()
            ],
        )
    named = ", ".join(f"{kind} {version}" for kind, version in trained.versions.items())
    read = ", ".join(trained.vectors) or "no vectors"
    if trained.promoted:
        served = f"serving now: {', '.join(trained.promoted)}"
    elif promote:
        served = "none of them serves"
    else:
        served = "none of them serves; to let those that are worth it serve: millrace train --promote"
    for kind, reason in trained.refused.items():
        notes().print(f"{kind}: {reason}", soft_wrap=True)
    notes().print(
        f"entropy {trained.entropy_gain:+.4f} against counters; pre-ranker {trained.pre_ranker.speed_up:.1f} times as "
        f"fast, AUC lost {trained.pre_ranker.auc_lost:.4f}; models read {read}; published {named}; {served}",
        soft_wrap=True,
    )


def _refuse_options_before(context: typer.Context) -> None:
    """Raise `ConfigError` for options that stand before the name of a model, where nothing would read them."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":  # by name: typer may bring a click of its own
            flag = next(option.opts[0] for option in context.command.params if option.name == name)
            model = context.invoked_subcommand
            raise ConfigError(
                f"option {flag}",
                problem=f"stands before {model}, where it says nothing to it",
                remedy=f"write it behind: millrace train {model} {flag}",
            )


app.command("ranker")(ranker)
app.command("retrieval")(retrieval)
app.command("social")(train_vectors.social)
app.command("semantic-ids")(train_vectors.semantic_ids)
# Of the home's own ranker: the same command under the name by which all models are trained.
app.command("pre-ranker")(distill)


@app.command("baselines")
def baselines(
    names: Annotated[
        str, typer.Option("--names", help="Which, with commas.")
    ] = "popularity,item_knn,als,counters_calibrated,lightgbm",
    hours: Annotated[
        float | None,
        typer.Option(min=0.1, help="Newest hours that are learned from; default: all.", show_default=False),
    ] = None,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit what needs no network, and measure it on the pages that `train ranker` is measured on.

    Popularity, item-kNN, ALS (the library implicit), the counters calibrated, and LightGBM on the counters; those that
    can retrieve are asked for the posts that were liked on these pages, too. Nothing is kept: they are there to be
    compared with. Needs the extra bench, not PyTorch.

    Example: millrace train baselines --names popularity,lightgbm
    """
    from millrace.app.baselines import measure_baselines
    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.training import home_samples

    settings = open_settings(home, overrides, checks_params=True)
    wanted = [name for name in names.split(",") if name]
    measured = measure_baselines(home_samples(settings, progress, hours=hours), wanted, progress)
    if as_json:
        print_json(measured)
        return
    print_table(
        "baselines on the newest pages",
        ("action", "baseline", "learned", "held out", "AUC", "entropy", "calibration"),
        [
            (
                head.action,
                name,
                head.n_learned,
                head.n_held_out,
                *(f"{figure:.3f}" for figure in (head.auc, head.normalised_entropy, head.calibration)),
            )
            for name, heads in measured.held_out.items()
            for head in heads
        ],
    )
    for name, recalls in measured.recall.items():
        found = ", ".join(f"{cutoff} {share:.3f}" for cutoff, share in recalls.items())
        notes().print(f"{name}: {found} of {measured.n_wanted:,} liked among {measured.n_corpus:,} posts")
