"""``millrace train``: models that learn from a home's log."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands import train_vectors
from millrace.app.commands.distill import distill
from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.commands.train_options import SizeOption, known_heads, known_vectors, parted
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.app.training import TrainedRanker

app = typer.Typer(help="Train models on what the log says. Needs the extra train.")


class Loss(StrEnum):
    """How the losses of a ranker's heads are added up; by uncertainty: Kendall, Gal and Cipolla 2018."""

    SUM = "sum"
    UNCERTAINTY = "uncertainty"


PromoteOption = Annotated[
    bool, typer.Option("--promote", help="Let it serve: publish it in the registry, which running servers follow.")
]

ReplayOption = Annotated[
    bool,
    typer.Option("--replay", help="Encode every page anew from the log: for whoever changes features. Takes long."),
]


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
        typer.Option(help="What is not made, and not read, with commas: semantic-ids, social.", callback=known_vectors),
    ] = "",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, even if a run that was interrupted could go on.")
    ] = False,
    replay: ReplayOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train models on what the log says: all that the home feed is made with, or one of them by name.

    Without a name: ranker, retrieval and, distilled from the ranker, pre-ranker, from one reading of the log, published
    in the registry; before them semantic ids and social vectors, which they read. With --promote those serve that are
    worth it: a ranker that knows more than counters, towers that find more than what is popular, a pre-ranker that says
    about what its ranker says. Needs the extra train.
    A run that is interrupted goes on where it was, on the pages that it had read, if it is asked for the same again.
    Works with and without a running server.

    Example: millrace train --promote
    """
    if context.invoked_subcommand is not None:
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
    _show_ranker(trained.ranker)
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


app.command("social")(train_vectors.social)
app.command("semantic-ids")(train_vectors.semantic_ids)
# Of the home's own ranker: the same command under the name by which all models are trained.
app.command("pre-ranker")(distill)


def need_torch() -> None:
    """Raise `ConfigError` unless torch is installed."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "training", value="torch", problem="not installed", remedy="pip install '.[train]', or make setup"
        )


@app.command("ranker")
def ranker(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the model; default: data/training/ranker in the home.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0.1, help="Newest hours that are learned from; default: all.", show_default=False),
    ] = None,
    size: SizeOption = "nano",
    epochs: Annotated[float, typer.Option(min=0.01, help="How often every page is seen.")] = 3.0,
    borrowed: Annotated[
        float, typer.Option(min=0, help="Weight of other viewers' pages as negatives; 0: none are borrowed.")
    ] = 0.0,
    position_debiasing: Annotated[
        bool, typer.Option(help="Learn what the place on the page does, and leave it out when served.")
    ] = True,
    loss: Annotated[
        Loss, typer.Option(help="How heads are added up: as they are, or each weighed by its learned uncertainty.")
    ] = Loss.SUM,
    heads: Annotated[
        str | None,
        typer.Option(
            help="Actions that are learned, with commas: one makes a single-task twin, to compare with. Default: all.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights and of the order of pages.")] = 1,
    semantic_ids: Annotated[
        Path | None,
        typer.Option(help="Folder that `train semantic-ids` wrote: posts' codes are read too.", show_default=False),
    ] = None,
    social: Annotated[
        Path | None,
        typer.Option(help="Folder that `train social` wrote: users' vectors are read too.", show_default=False),
    ] = None,
    promote: PromoteOption = False,
    replay: ReplayOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the ranker: a transformer that predicts every action for every post of a page.

    Read is what was logged with each page when it was served; pages without it are replayed: viewer and posts are
    encoded anew from what was known until then, as all are with --replay. The newest tenth of the pages is held out:
    the weights and the calibration are chosen on its older half, the figures are of its newer half. A run that is
    interrupted goes on where it was. Works with and without a running server.

    Example: millrace train ranker --epochs 5

    Example: millrace train ranker --hours 48 --json

    Example: millrace train ranker --heads like --out twins/like
    """
    need_torch()
    from millrace.app import wiring

    settings = open_settings(home, overrides, checks_params=True)
    learned = known_heads(heads, wiring.build_actions(settings))
    if learned and promote:
        raise ConfigError(
            "--heads",
            value=heads,
            problem="makes a ranker that knows of no other action, which must not serve",
            remedy="leave out --promote, or --heads",
        )
    from millrace.app.commands.printing import print_json, progress
    from millrace.app.training import home_samples, train_home_ranker
    from millrace.features.encoding.vector_sources import VectorSources
    from millrace.flywheel.train_ranker import RankerTraining
    from millrace.models.config import preset

    training = RankerTraining(
        trunk=preset(size),
        n_epochs=epochs,
        borrowed_weight=borrowed,
        is_position_debiased=position_debiasing,
        is_uncertainty_weighted=loss is Loss.UNCERTAINTY,
        heads=learned,
        seed=seed,
    )
    folder = out or settings.training_dir / "ranker"
    sources = VectorSources.open(semantic_ids, social)
    samples = home_samples(settings, progress, hours=hours, replays=replay)
    trained = train_home_ranker(samples, training, folder, progress, sources)
    if promote:
        from millrace.app.training_all import let_serve, ranker_metrics

        let_serve(settings, "ranker", folder, samples, ranker_metrics(trained), training)
    if as_json:
        print_json(trained)
    else:
        _show_ranker(trained)


def _show_ranker(trained: TrainedRanker) -> None:
    from millrace.app.commands.printing import notes, print_table

    columns = ("action", "learned", "held out", "AUC", "counters", "entropy", "counters", "calibration", "counters")
    print_table(
        "ranker on the newest pages",
        columns,
        [
            (
                head.action,
                head.n_learned,
                head.n_held_out,
                *(
                    f"{figure:.3f}"
                    for figure in (
                        head.auc,
                        head.counters_auc,
                        head.normalised_entropy,
                        head.counters_normalised_entropy,
                        head.calibration,
                        head.counters_calibration,
                    )
                ),
            )
            for head in trained.held_out
        ],
    )
    notes().print(
        f"{trained.n_slates:,} pages, {trained.n_rows:,} posts; best after step {trained.best_step} of "
        f"{trained.n_steps}; in {trained.folder}",
        soft_wrap=True,
    )


@app.command("retrieval")
def retrieval(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the model; default: data/training/retrieval in the home.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0.1, help="Newest hours that are learned from; default: all.", show_default=False),
    ] = None,
    size: SizeOption = "nano",
    epochs: Annotated[float, typer.Option(min=0.01, help="How often every page with a like is seen.")] = 2.0,
    post_ids: Annotated[
        bool, typer.Option(help="Read posts' ids as well: sharper for old posts, blind for new ones.")
    ] = False,
    only_ids: Annotated[
        bool, typer.Option("--only-ids", help="Read nothing but posts' ids: collaborative filtering, to compare with.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights, of the order of pages and of what is drawn.")] = 1,
    semantic_ids: Annotated[
        Path | None,
        typer.Option(help="Folder that `train semantic-ids` wrote: posts' codes are read too.", show_default=False),
    ] = None,
    promote: PromoteOption = False,
    replay: ReplayOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the retrieval towers: of all live posts, which lie nearest to a viewer.

    What was logged is read as for the ranker. The newest tenth of the pages is held out: the weights are chosen on its
    older half, the figures are of its newer half: how much of what viewers wanted is among the 100 and the 500 nearest
    of all live posts, beside the posts that were wanted most by everybody. Cold posts were shown less than 10 times.

    Example: millrace train retrieval --epochs 3

    Example: millrace train retrieval --hours 48 --json
    """
    need_torch()
    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.retrieval_training import train_home_retrieval
    from millrace.app.training import home_samples
    from millrace.features.encoding.vector_sources import VectorSources
    from millrace.flywheel.train_retrieval import RetrievalTraining
    from millrace.models.config import preset
    from millrace.models.retrieval_config import COLD, IDS

    settings = open_settings(home, overrides, checks_params=True)
    reads = IDS if only_ids else (*COLD, "post") if post_ids else COLD
    training = RetrievalTraining(trunk=preset(size), n_epochs=epochs, reads=reads, seed=seed)
    folder = out or settings.training_dir / "retrieval"
    sources = VectorSources.open(semantic_ids, None)
    samples = home_samples(settings, progress, hours=hours, replays=replay)
    trained = train_home_retrieval(samples, training, folder, progress, sources)
    if promote:
        from millrace.app.training_all import let_serve, retrieval_metrics

        let_serve(settings, "retrieval", folder, samples, retrieval_metrics(trained), training)
    if as_json:
        print_json(trained)
        return
    print_table(
        "what viewers wanted on the newest pages, among the nearest",
        ("retriever", "wanted", "of posts", "at 100", "at 500", "cold", "at 100", "at 500"),
        [
            (
                name,
                found.n,
                round(found.n_live),
                *(f"{found.at[k]:.3f}" for k in (100, 500)),
                found.n_cold,
                *(f"{found.cold_at[k]:.3f}" for k in (100, 500)),
            )
            for name, found in trained.held_out.items()
        ],
    )
    notes().print(
        f"{trained.n_slates:,} pages, {trained.n_positives:,} wanted posts; best after step {trained.best_step} of "
        f"{trained.n_steps}; in {trained.folder}",
        soft_wrap=True,
    )


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
