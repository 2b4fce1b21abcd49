"""``millrace train ranker``: the transformer that predicts every action, alone and with all its options."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.commands.train_options import (
    FreshOption,
    PromoteOption,
    ReplayOption,
    SemanticIdsOption,
    SizeOption,
    known_heads,
    need_torch,
)
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.app.training import TrainedRanker


class Loss(StrEnum):
    """How the losses of a ranker's heads are added up; by uncertainty: Kendall, Gal and Cipolla 2018."""

    SUM = "sum"
    UNCERTAINTY = "uncertainty"


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
    ] = 0.2,
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
    semantic_ids: SemanticIdsOption = None,
    social: Annotated[
        Path | None,
        typer.Option(help="Folder that `train social` wrote: users' vectors are read too.", show_default=False),
    ] = None,
    promote: PromoteOption = False,
    fresh: FreshOption = False,
    replay: ReplayOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the ranker: a transformer that predicts every action for every post of a page.

    Read is what was logged with each page when it was served; pages without it are replayed: viewer and posts are
    encoded anew from what was known until then, as all are with --replay. The newest tenth of the pages is held out:
    the weights and the calibration are chosen on its older half, the figures are of its newer half. A run that is
    interrupted goes on where it was, on the pages that it had read, if it is asked for the same again. Works with and
    without a running server.

    Example: millrace train ranker --epochs 5

    Example: millrace train ranker --hours 48 --json

    Example: millrace train ranker --heads like --out twins/like
    """
    need_torch()
    from millrace.app import wiring

    settings = open_settings(home, overrides, checks_params=True)
    learned = known_heads(heads, wiring.build_actions(settings))
    from millrace.app.commands.printing import print_json, progress
    from millrace.app.kept_samples import kept_samples
    from millrace.app.training import TrainedRanker, home_samples, train_home_ranker
    from millrace.app.training_all import let_serve, ranker_metrics
    from millrace.app.training_run import sum_of, training_run
    from millrace.features.encoding.vector_sources import VectorSources
    from millrace.flywheel.train_ranker import RankerTraining
    from millrace.models.config import preset

    if learned and promote:
        raise ConfigError(
            "--heads",
            value=heads,
            problem="makes a ranker that knows of no other action, which must not serve",
            remedy="leave out --promote, or --heads",
        )
    folder = out or settings.training_dir / "ranker"
    if learned and folder.resolve() == (settings.training_dir / "ranker").resolve():
        raise ConfigError(
            "--heads",
            value=heads,
            problem="makes a ranker that knows of no other action, which must not take the place of the home's own",
            remedy="give it a folder of its own: --out twins/like",
        )
    training = RankerTraining(
        trunk=preset(size),
        n_epochs=epochs,
        borrowed_weight=borrowed,
        is_position_debiased=position_debiasing,
        is_uncertainty_weighted=loss is Loss.UNCERTAINTY,
        heads=learned,
        seed=seed,
    )
    sources = VectorSources.open(semantic_ids, social)
    options = {
        "training": training,
        "hours": hours,
        "replays": replay,
        "out": str(folder.resolve()),
        "vectors": [sum_of(semantic_ids), sum_of(social)],
    }
    with training_run(settings, options, begins_anew=fresh, name="ranker", writes=folder) as run:
        samples = kept_samples(
            run, lambda: home_samples(settings, progress, hours=hours, replays=replay, until=run.log_end)
        )
        trained = run.stage(
            "ranker", TrainedRanker, lambda: train_home_ranker(samples, training, folder, progress, sources), folder
        )
        if promote:
            let_serve(settings, run, "ranker", folder, samples, ranker_metrics(trained), training)
    if as_json:
        print_json(trained)
    else:
        show_ranker(trained)


def show_ranker(trained: TrainedRanker) -> None:
    """Print a ranker's figures as a table."""
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
