"""``millrace train retrieval``: the towers that find posts, alone and with all their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.commands.train_options import (
    FreshOption,
    PromoteOption,
    ReplayOption,
    SemanticIdsOption,
    SizeOption,
    need_torch,
)


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
    semantic_ids: SemanticIdsOption = None,
    promote: PromoteOption = False,
    fresh: FreshOption = False,
    replay: ReplayOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the retrieval towers: of all live posts, which lie nearest to a viewer.

    What was logged is read as for the ranker. The newest tenth of the pages is held out: the weights are chosen on its
    older half, the figures are of its newer half: how much of what viewers wanted is among the 100 and the 500 nearest
    of all live posts, beside the posts that were wanted most by everybody. Cold posts were shown less than 10 times. A
    run that is interrupted goes on where it was, on the pages that it had read, if it is asked for the same again.

    Example: millrace train retrieval --epochs 3

    Example: millrace train retrieval --hours 48 --json
    """
    need_torch()
    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.kept_samples import kept_samples
    from millrace.app.retrieval_training import TrainedRetrieval, train_home_retrieval
    from millrace.app.training import home_samples
    from millrace.app.training_all import let_serve, retrieval_metrics
    from millrace.app.training_run import sum_of, training_run
    from millrace.features.encoding.vector_sources import VectorSources
    from millrace.flywheel.train_retrieval import RetrievalTraining
    from millrace.models.config import preset
    from millrace.models.retrieval_config import COLD, IDS

    settings = open_settings(home, overrides, checks_params=True)
    reads = IDS if only_ids else (*COLD, "post") if post_ids else COLD
    training = RetrievalTraining(trunk=preset(size), n_epochs=epochs, reads=reads, seed=seed)
    folder = out or settings.training_dir / "retrieval"
    sources = VectorSources.open(semantic_ids, None)
    options = {
        "training": training,
        "hours": hours,
        "replays": replay,
        "out": str(folder.resolve()),
        "vectors": sum_of(semantic_ids),
    }
    with training_run(settings, options, begins_anew=fresh, name="retrieval", writes=folder) as run:
        samples = kept_samples(
            run, lambda: home_samples(settings, progress, hours=hours, replays=replay, until=run.log_end)
        )
        trained = run.stage(
            "retrieval",
            TrainedRetrieval,
            lambda: train_home_retrieval(samples, training, folder, progress, sources),
            folder,
        )
        if promote:
            let_serve(settings, run, "retrieval", folder, samples, retrieval_metrics(trained), training)
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
