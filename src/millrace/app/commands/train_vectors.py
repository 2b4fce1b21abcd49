"""``millrace train social`` and ``train semantic-ids``: vectors that other models read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.commands.train_options import FreshOption, need_torch


def social(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the encoder; default: data/training/social in the home.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0.1, help="Newest hours whose pages a ranker learns from; default: all.", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 800,
    width: Annotated[int, typer.Option(min=1, help="Numbers of a vector.")] = 32,
    held_out: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            help="Newest share of the pages whose follows are not learned from; default: more than a ranker holds out.",
            show_default=False,
        ),
    ] = None,
    fresh: FreshOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is left to chance.")] = 0,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the social encoder: where users stand in the follow graph, as vectors.

    It learns to tell whom users follow besides those that it is shown, on the graph of before the newest pages. Users
    who come later need no training: their vectors are made of whom they follow. `millrace train ranker --social` reads
    them. A run that is interrupted goes on where it was, if it is asked for the same again. Works with and without a
    running server.

    Example: millrace train social

    Example: millrace train social --steps 2000 --json
    """
    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.training_run import training_run
    from millrace.app.vector_training import HELD_OUT_FRAC, train_home_social

    need_torch()
    from millrace.flywheel.train_social import SocialTraining
    from millrace.models.social import SocialConfig

    settings = open_settings(home, overrides)
    training = SocialTraining(encoder=SocialConfig(dim=width, seed=seed), n_steps=steps)
    folder = out or settings.training_dir / "social"
    frac = HELD_OUT_FRAC if held_out is None else held_out
    options = {"training": training, "hours": hours, "held_out": frac, "out": str(folder.resolve())}
    with training_run(settings, options, begins_anew=fresh, name="social", writes=folder) as run:
        end = run.stage("begun", int, lambda: run.log_end)  # whoever goes on reads follows up to the same moment
        trained = train_home_social(settings, training, folder, progress, hours=hours, held_out_frac=frac, until=end)
    if as_json:
        print_json(trained)
        return
    rows = [
        (whose, name, found.n_edges, *(f"{x:.3f}" for x in (found.auc, *found.recall.values(), found.mrr)))
        for whose, scorers in (("everybody", trained.test), ("newcomers", trained.newcomers))
        for name, found in scorers.items()
    ]
    cutoffs = [f"recall@{cutoff}" for cutoff in next(iter(trained.test.values())).recall]
    print_table("follows held out", ("whose", "scorer", "follows", "AUC", *cutoffs, "MRR"), rows)
    notes().print(
        f"{trained.n_users:,} users, {trained.n_edges:,} follows; best after step {trained.best_step}; vectors of "
        f"{trained.n_moments} moments; in {trained.folder}",
        soft_wrap=True,
    )


def semantic_ids(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the codebooks; default: training/semantic-ids in the home.", show_default=False),
    ] = None,
    levels: Annotated[int, typer.Option(min=1, max=6, help="Codes of a post.")] = 3,
    codes: Annotated[int, typer.Option(min=2, max=256, help="Codes of a level.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is left to chance.")] = 0,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train semantic ids: every post's text as a few codes, coarse first, so that like posts share their first ones.

    Residual k-means over the text vectors of the live posts. `millrace train ranker --semantic-ids` reads them, and the
    ranker carries the codebooks with it. Works with and without a running server.

    Example: millrace train semantic-ids

    Example: millrace train semantic-ids --levels 4 --codes 128 --json
    """
    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.training_run import training_lock
    from millrace.app.vector_training import train_home_semantic_ids
    from millrace.flywheel.train_semantic_ids import SemanticIdConfig

    settings = open_settings(home, overrides)
    config = SemanticIdConfig(n_levels=levels, n_codes=codes, seed=seed)
    folder = out or settings.training_dir / "semantic-ids"
    with training_lock(settings, folder):
        trained = train_home_semantic_ids(settings, config, folder, progress)
    if as_json:
        print_json(trained)
        return
    rows = [
        (
            whose,
            number,
            *(f"{x:.3f}" for x in (level.relative_mse, level.entropy_bits, level.perplexity)),
            level.n_dead_codes,
        )
        for whose, quality in (("learned", trained.learned), ("held out", trained.held_out))
        for number, level in enumerate(quality.levels, 1)
    ]
    print_table("semantic ids", ("posts", "level", "error", "entropy", "perplexity", "dead codes"), rows)
    for whose, quality in (("learned", trained.learned), ("held out", trained.held_out)):
        notes().print(
            f"{whose}: {quality.n_posts:,} posts, {quality.n_paths:,} different ids, cosine {quality.mean_cosine:.3f}, "
            f"{quality.unique_path_frac:.0%} have an id of their own",
            soft_wrap=True,
        )
    notes().print(f"in {trained.folder}", soft_wrap=True)
