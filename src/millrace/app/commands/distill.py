"""``millrace distill`` and ``millrace train pre-ranker``: a ranker's knowledge in a network a tenth as dear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, SetOption, open_settings
from millrace.app.commands.train_options import FreshOption, PromoteOption, need_torch

if TYPE_CHECKING:
    from millrace.app.distilling import Distilled
    from millrace.flywheel.logged_samples import LoggedCandidates

OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the pre-ranker; default: data/training/pre_ranker in the home.", show_default=False),
]
RankerOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the trained ranker; default: data/training/ranker in the home.", show_default=False),
]
HoursOption = Annotated[
    float | None,
    typer.Option(min=0.1, help="Newest hours whose pages the ranker is asked about; default: all.", show_default=False),
]
EpochsOption = Annotated[float, typer.Option(min=0.01, help="How often every page is seen.")]
TemperatureOption = Annotated[float, typer.Option(min=1, help="Both logits are divided by it.")]
SoftOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the ranker's word; the rest is what came of each post.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of first weights and of the order of pages.")]


def distill(
    ranker: RankerOption = None,
    out: OutOption = None,
    hours: HoursOption = None,
    epochs: EpochsOption = 3.0,
    temperature: TemperatureOption = 3.0,
    soft: SoftOption = 0.7,
    seed: SeedOption = 1,
    candidates: Annotated[
        bool,
        typer.Option(
            help="Also learn from all candidates of the requests whose candidates were logged, seen or not.",
        ),
    ] = True,
    promote: PromoteOption = False,
    fresh: FreshOption = False,
    home: HomeOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Distil a trained ranker into a pre-ranker: what it says of posts, learned by a light network.

    The ranker is asked about every page of the log, as of its moment, and about all candidates of the requests
    that were logged whole (CandidatesLogged; home.logs_features); the pre-ranker learns to say the same, and from
    what came of each post that was seen. The newest tenth of the pages is held out: the weights and the
    calibration are chosen on its older half, the figures are of its newer half. A run that is interrupted goes on
    where it was, on the pages that it had read, if it is asked for the same again.

    Example: millrace distill

    Example: millrace distill --ranker training/large --json
    """
    need_torch()
    from millrace.app.commands.printing import print_json, progress
    from millrace.app.distilling import Distilled, distil
    from millrace.app.kept import home_weights
    from millrace.app.kept_samples import kept_candidates, kept_samples
    from millrace.app.lessons import home_candidates
    from millrace.app.training import home_samples
    from millrace.app.training_all import let_serve, pre_ranker_metrics
    from millrace.app.training_run import sum_of, training_run
    from millrace.flywheel.train_pre_ranker import PreRankerTraining

    settings = open_settings(home, overrides, checks_params=True)
    training = PreRankerTraining(n_epochs=epochs, temperature=temperature, soft_share=soft, seed=seed)
    teacher, to = ranker or settings.training_dir / "ranker", out or settings.training_dir / "pre_ranker"
    options = {
        "training": training,
        "hours": hours,
        "candidates": candidates,
        "out": str(to.resolve()),
        "teacher": sum_of(teacher),
    }
    with training_run(settings, options, begins_anew=fresh, name="pre-ranker", writes=to) as run:
        samples = kept_samples(run, lambda: home_samples(settings, progress, hours=hours, until=run.log_end))

        def read_candidates() -> LoggedCandidates | None:
            return home_candidates(settings, progress, hours=hours, from_ms=samples.meta.from_ms, until=run.log_end)

        def student() -> Distilled:
            return distil(samples, teacher, training, to, progress, logged, home_weights(settings))

        logged = kept_candidates(run, read_candidates) if candidates else None
        distilled = run.stage("pre_ranker", Distilled, student, to)
        if promote:
            let_serve(settings, run, "pre_ranker", to, samples, pre_ranker_metrics(distilled), training)
    if as_json:
        print_json(distilled)
    else:
        _show(distilled)


def _show(distilled: Distilled) -> None:
    from millrace.app.commands.printing import notes, print_table

    print_table(
        "pre-ranker and its teacher on the newest pages",
        ("action", "held out", "AUC", "teacher", "entropy", "teacher"),
        [
            (
                head.action,
                head.n_held_out,
                f"{head.student_auc:.3f}",
                f"{head.teacher_auc:.3f}",
                f"{head.student_normalised_entropy:.3f}",
                f"{head.teacher_normalised_entropy:.3f}",
            )
            for head in distilled.held_out
        ],
    )
    kept = distilled.kept
    print_table(
        f"kept of the ranker's best: {kept.n_pages:,} pages of {kept.n_candidates:,.0f} candidates",
        ("of the best", "kept", "95 % from", "to"),
        [
            (f"{n} of 2,000", f"{share.value:.3f}", f"{share.low:.3f}", f"{share.high:.3f}")
            for n, share in ((50, kept.kept_50), (500, kept.kept_500))
        ],
    )
    notes().print(
        f"AUC lost {distilled.auc_lost:.4f}; {distilled.n_timed:,} candidates in {distilled.student_ms:.2f} ms, "
        f"{distilled.speed_up:.1f} times as fast as its teacher; {distilled.n_slates:,} pages, {distilled.n_rows:,} "
        f"posts, {distilled.n_labelled:,} of them seen; best after step {distilled.best_step} of {distilled.n_steps}; "
        f"in {distilled.folder}",
        soft_wrap=True,
    )
