"""What the choices in the ranker's training are worth, against the truth: one training a choice, all judged alike.

Works on what `bench_learned.py` has left in ``--out`` (run, samples). Every variant learns from the same pages for as
many epochs, differs from the default in the one thing that its name says, and is judged on the same later pages by the
share of the calibrated counters' gap that it closes, head by head. ``twin_<head>`` are single-task twins: nothing but
that head is learned; ``twins`` tells what the default gains over each, in entropy (above 0: learning together helps).

The equal-outputs check is that of `bench_learned.py`: all rows find their truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from harness import emit, note
from millrace.app.commands.printing import progress
from millrace.app.simulation.homes import START_MS
from millrace.app.simulation.learned import LearnedFigures, learned_figures
from millrace.flywheel.sample_set import SampleSet
from millrace.flywheel.train_ranker import REPORT_NAME, RankerTraining, train_ranker
from millrace.simulator.config import HOUR_MS

DEFAULT: Final = "default"
CHANGES: Final[dict[str, dict[str, Any]]] = {
    DEFAULT: {},
    "not_debiased": {"is_position_debiased": False},
    "uncertainty": {"is_uncertainty_weighted": True},
    "borrowed": {"borrowed_weight": 0.2},
    "not_blended": {"is_blended": False},
    "no_post_rows": {"post_dropout": 0.99},
}
HEADS: Final = ("like", "click", "reply", "repost", "bookmark", "photo_expand", "video_view")


def main() -> None:
    """Train what is not there yet, judge all, print the line."""
    options = _options()
    samples = SampleSet.load(options.out / "samples")
    until_ms = START_MS + int(options.until_hour * HOUR_MS)
    learned = samples.take(np.flatnonzero(samples.now_ms < until_ms))
    folders: dict[str, Path] = {}
    for name in options.variants:
        folders[name] = options.out / "variants" / f"{name}-{options.epochs:g}"
        if (folders[name] / REPORT_NAME).exists():
            continue
        note(f"training: {name} ...")
        changes = {"heads": (name.removeprefix("twin_"),)} if name.startswith("twin_") else CHANGES[name]
        training = RankerTraining(n_epochs=options.epochs, seed=options.seed)
        train_ranker(learned, msgspec.structs.replace(training, **changes), folder=folders[name])
    figures = learned_figures(options.out / "run", folders, progress, samples_folder=options.out / "samples")
    entropy = _by_name(figures, "normalised_entropy")
    truths = [head.closed.value for head in figures.judgement.heads if head.prediction == "truth"]
    emit(
        "variants",
        equal=figures.n_unjudged == 0 and all(abs(closed - 1.0) < 1e-9 for closed in truths),
        ratio={},
        seed=options.seed,
        epochs=options.epochs,
        n_rows=figures.judgement.n_rows,
        closed_of_calibrated=_by_name(figures, "closed_calibrated"),
        calibration=_by_name(figures, "calibration"),
        normalised_entropy=entropy,
        twins={
            head: entropy[f"twin_{head}"][head] - entropy[DEFAULT][head]
            for head in HEADS
            if f"twin_{head}" in entropy and DEFAULT in entropy
        },
    )


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="of bench_learned.py")
    parser.add_argument("--seed", type=int, default=1, help="of the trainings")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--until-hour", type=float, default=92.0, help="as of bench_learned.py")
    parser.add_argument(
        "--variants",
        type=lambda text: text.split(","),
        default=[*CHANGES, "twin_like", "twin_click", "twin_reply"],
        help="with commas",
    )
    return parser.parse_args()


def _by_name(figures: LearnedFigures, field: str) -> dict[str, dict[str, Any]]:
    """Return a figure by prediction and head: its value, and its interval where it has one."""
    found: dict[str, dict[str, Any]] = {}
    for head in figures.judgement.heads:
        if head.action in HEADS and head.prediction != "truth":
            value = getattr(head, field)
            told = value if isinstance(value, float) else [round(x, 4) for x in (value.value, value.low, value.high)]
            found.setdefault(head.prediction, {})[head.action] = told
    return found


if __name__ == "__main__":
    main()
