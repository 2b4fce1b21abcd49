"""``millrace simulate learned``: learned predictions against the truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from millrace.app.commands.options import JsonOption
from millrace.app.commands.simulate_options import RunArgument, named_run

if TYPE_CHECKING:
    from millrace.app.simulation.learned import LearnedFigures
    from millrace.simulator.judge.intervals import Estimate

_N_SLICES: Final = 15
"""Slices in the table; all are in the JSON."""


def learned(
    run: RunArgument,
    rankers: Annotated[
        list[str],
        typer.Option(
            "--ranker",
            metavar="[NAME=]FOLDER",
            help="A trained ranker, of `millrace train ranker`; given again: one more.",
            show_default=False,
        ),
    ],
    baselines: Annotated[
        str,
        typer.Option(
            help="Also fit these on the run's pages of the rankers' span, with commas: popularity, item_knn, als, "
            "lightgbm; needs the extra bench.",
            show_default=False,
        ),
    ] = "",
    samples: Annotated[
        Path | None,
        typer.Option(
            help="The run's samples: read from this folder, or made and kept there; default: made each time.",
            show_default=False,
        ),
    ] = None,
    min_rows: Annotated[int, typer.Option(min=1, help="Slices of fewer posts are left out.")] = 10_000,
    as_json: JsonOption = False,
) -> None:
    """Hold what rankers predict against the truth: how much of what counters leave they have learned.

    Only pages from after all that the rankers have seen are judged. Beside them stand the counters, and the
    counters calibrated on the pages that the rankers were validated on. Needs the extra train.

    Example: millrace simulate learned home-multi-demo-1-5f0c9d21 --ranker training/ranker
    """
    import importlib.util

    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.simulation.learned import learned_figures
    from millrace.base.errors import ConfigError

    if importlib.util.find_spec("torch") is None:
        raise ConfigError("learned rankers", value="torch", problem="not installed", remedy="pip install -e '.[train]'")
    figures = learned_figures(
        named_run(run),
        _named(rankers),
        progress,
        baselines=[name for name in baselines.split(",") if name],
        samples_folder=samples,
        min_rows=min_rows,
    )
    if as_json:
        print_json(figures)
        return
    print_table("predictions against the truth", *_head_rows(figures))
    if figures.judgement.slices:
        print_table("predicted over true, by slice: the furthest from 1", *_slice_rows(figures))
    notes().print(
        f"{figures.judgement.n_rows:,} posts on {figures.n_slates:,} pages, {figures.judgement.n_viewers:,} people; "
        f"{figures.n_unjudged:,} posts without a truth",
        soft_wrap=True,
    )


def _named(rankers: list[str]) -> dict[str, Path]:
    from millrace.base.errors import ConfigError
    from millrace.simulator.judge.learned import CALIBRATED, COUNTERS, TRUTH

    named: dict[str, Path] = {}
    for text in rankers:
        name, separator, folder = text.partition("=")
        if not separator:
            name, folder = "learned", text
        if not name or not folder or name in named or name in (COUNTERS, CALIBRATED, TRUTH):
            raise ConfigError(
                "option --ranker", value=text, problem="no name of its own", remedy="write NAME=FOLDER, each name once"
            )
        named[name] = Path(folder)
    return named


def _head_rows(figures: LearnedFigures) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    rows: list[tuple[object, ...]] = [
        (
            head.action,
            head.prediction,
            round(head.n_true),
            f"{head.normalised_entropy:.4f}",
            _share(head.closed),
            _share(head.closed_calibrated),
            _shown(head.calibration),
            _shown(head.auc),
        )
        for head in figures.judgement.heads
    ]
    columns = ("action", "prediction", "expected", "entropy", "gap closed", "beyond calibration", "calibration", "AUC")
    return columns, rows


def _slice_rows(figures: LearnedFigures) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return the slices of learned predictions that are furthest from what is true."""
    learned = [
        part
        for part in figures.judgement.slices
        if part.prediction in figures.rankers and math.isfinite(part.calibration.value)
    ]
    learned.sort(key=lambda part: -abs(part.calibration.value - 1.0))
    rows: list[tuple[object, ...]] = [
        (part.action, part.prediction, part.slice, part.n, round(part.n_true), _shown(part.calibration))
        for part in learned[:_N_SLICES]
    ]
    return ("action", "prediction", "slice", "posts", "expected", "calibration"), rows


def _share(estimate: Estimate) -> str:
    """Return a share with half its interval; alone where too few people were seen for an interval."""
    half = (estimate.high - estimate.low) / 2
    return f"{estimate.value:.1%}" + (f" ±{half:.1%}" if math.isfinite(half) else "")


def _shown(estimate: Estimate) -> str:
    half = (estimate.high - estimate.low) / 2
    return f"{estimate.value:.3f}" + (f" ±{half:.3f}" if math.isfinite(half) else "")
