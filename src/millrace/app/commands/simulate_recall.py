"""``millrace simulate recall``: what retrieval towers find, against the truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import JsonOption
from millrace.app.commands.simulate_options import RunArgument, named_run

if TYPE_CHECKING:
    from millrace.app.simulation.recall import RecallFigures
    from millrace.simulator.judge.intervals import Estimate


def recall(
    run: RunArgument,
    retrievals: Annotated[
        list[str],
        typer.Option(
            "--retrieval",
            metavar="[NAME=]FOLDER",
            help="Trained towers, of `millrace train retrieval`; given again: others, to compare the first with.",
            show_default=False,
        ),
    ],
    people: Annotated[int, typer.Option(min=2, help="So many of those who used the feed are asked for.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of who is drawn, and of the intervals.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Hold what towers find against the truth: of all that people would act on, how much is among the nearest posts.

    Asked for where the run ends, of all originals and quotes of two days that each person may be shown, as a server
    would be asked. Beside them stand the posts with most likes, and the Bayes retriever: the truth itself, sorted.
    Cold posts are of the run and were looked at less than 10 times in it. Intervals are bootstrapped by person.

    Example: millrace simulate recall home-multi-demo-1-5f0c9d21 --retrieval training/retrieval
    """
    from millrace.app.commands.printing import notes, print_json, print_table, progress
    from millrace.app.simulation.recall import recall_figures

    figures = recall_figures(named_run(run), _named(retrievals), progress, n_people=people, seed=seed)
    if as_json:
        print_json(figures)
        return
    print_table("of what people would act on, found among the nearest", *_rows(figures))
    notes().print(
        f"{figures.n_people:,} people, each of {figures.n_live:,.0f} posts ({figures.n_cold:,.0f} cold), "
        f"{figures.n_wanted:,.0f} of which they would act on",
        soft_wrap=True,
    )


def _named(retrievals: list[str]) -> dict[str, Path]:
    from millrace.app.simulation.recall import POPULARITY
    from millrace.base.errors import ConfigError
    from millrace.simulator.judge.recall import BAYES

    named: dict[str, Path] = {}
    for text in retrievals:
        name, separator, folder = text.partition("=")
        if not separator:
            name, folder = "towers", text
        if not name or not folder or name in named or name in (POPULARITY, BAYES):
            raise ConfigError(
                "option --retrieval",
                value=text,
                problem="no name of its own",
                remedy="write NAME=FOLDER, each name once",
            )
        named[name] = Path(folder)
    return named


def _rows(figures: RecallFigures) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    first = figures.retrievers[0].retriever
    columns = ("retriever", "at", "recall", "of Bayes", f"{first} over it", "cold", "of Bayes", f"{first} over it")
    rows: list[tuple[object, ...]] = [
        (
            found.retriever,
            found.cutoff,
            _shown(found.recall),
            _shown(found.of_bayes),
            _shown(found.first_over),
            _shown(found.cold),
            _shown(found.cold_of_bayes),
            _shown(found.cold_first_over),
        )
        for found in figures.retrievers
    ]
    return columns, rows


def _shown(estimate: Estimate) -> str:
    """Return a number with half its interval; alone where there is none."""
    half = (estimate.high - estimate.low) / 2
    return f"{estimate.value:.3f}" + (f" ±{half:.3f}" if math.isfinite(half) else "")
