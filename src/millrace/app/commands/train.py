"""``millrace train``: models that learn from a home's log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.base.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Train models on what the log says. Needs the extra: millrace[train].")


@app.callback()
def train() -> None:
    """Train models on what the log says. Needs the extra: millrace[train]."""


@app.command("ranker")
def ranker(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the model; default: training/ranker in the home.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0.1, help="Newest hours that are learned from; default: all.", show_default=False),
    ] = None,
    size: Annotated[str, typer.Option(help="nano, small or large.")] = "nano",
    epochs: Annotated[float, typer.Option(min=0.01, help="How often every page is seen.")] = 3.0,
    borrowed: Annotated[
        float, typer.Option(min=0, help="Weight of other viewers' pages as negatives; 0: none are borrowed.")
    ] = 0.0,
    position_debiasing: Annotated[
        bool, typer.Option(help="Learn what the place on the page does, and leave it out when served.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights and of the order of pages.")] = 1,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the ranker: a transformer that predicts every action for every post of a page.

    The log is replayed: each page's viewer and posts are encoded from what was known until then. The newest tenth of
    the pages is held out: the weights and the calibration are chosen on its older half, the figures are of its newer
    half. A run that is interrupted goes on where it was. Works with and without a running server.

    Example: millrace train ranker --epochs 2

    Example: millrace train ranker --hours 48 --json
    """
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "training", value="torch", problem="not installed", remedy="pip install 'millrace[train]', or make setup"
        )
    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.training import home_samples, train_home_ranker
    from millrace.flywheel.train_ranker import RankerTraining
    from millrace.models.config import preset

    settings = open_settings(home, overrides, checks_params=True)
    training = RankerTraining(
        trunk=preset(size),
        n_epochs=epochs,
        borrowed_weight=borrowed,
        is_position_debiased=position_debiasing,
        seed=seed,
    )
    folder = out or settings.data_dir / "training" / "ranker"
    trained = train_home_ranker(home_samples(settings, progress, hours=hours), training, folder, progress)
    if as_json:
        print_json(trained)
        return
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
    compared with. Needs the extra millrace[bench], not PyTorch.

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
