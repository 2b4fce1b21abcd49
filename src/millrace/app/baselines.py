"""`millrace train baselines`: what needs no network, on the pages that the ranker is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from millrace.app.evaluation import ShowProgress
from millrace.app.training import HeadFigures, head_figures
from millrace.base.errors import SourceDataError
from millrace.flywheel.baselines.fits import FITS, SCORERS, fit_baselines
from millrace.flywheel.baselines.interactions import Interactions
from millrace.flywheel.baselines.recall import CUTOFFS, ranks_of, wanted_posts
from millrace.flywheel.metrics import recall_at
from millrace.flywheel.sample_set import SampleSet

VALIDATION_FRAC: Final = 0.1
"""As that of `millrace.flywheel.train_ranker.RankerTraining`."""


class MeasuredBaselines(msgspec.Struct, frozen=True, kw_only=True):
    """What baselines come to.

    Attributes
    ----------
    n_slates, n_rows
        Learned from.
    held_out
        Baseline to its figures on the newest slates.
    recall
        Baseline to ``recall@k`` of the posts that were liked on these slates, among all that the samples name.
    n_wanted, n_corpus
        How many posts were to be found, and among how many.
    """

    n_slates: int
    n_rows: int
    held_out: dict[str, tuple[HeadFigures, ...]]
    recall: dict[str, dict[str, float]]
    n_wanted: int
    n_corpus: int


def measure_baselines(
    samples: SampleSet, names: Sequence[str], show_progress: ShowProgress, validation_frac: float = VALIDATION_FRAC
) -> MeasuredBaselines:
    """Fit baselines on what `train_home_ranker` would learn from, and measure them where it measures.

    Raises
    ------
    ConfigError
        If a name is not known, or what a baseline needs is not installed.
    SourceDataError
        If there are too few slates.
    """
    order = np.argsort(samples.now_ms, kind="stable")
    n_test = max(int(len(samples) * validation_frac / 2), 1)
    older, newest = order[:-n_test], order[-n_test:]
    n_validated = max(int(len(older) * validation_frac), 1)
    learned, validated = older[:-n_validated], older[-n_validated:]
    if not len(learned):
        raise SourceDataError(
            "samples", value=len(samples), problem="too few slates to learn from", remedy="take a longer span"
        )
    rows, seen = samples.rows_of(newest), samples.rows_of(learned)
    positives = {
        action: int((samples.labels[seen, head] > 0).sum()) for head, action in enumerate(samples.meta.actions)
    }
    held_out: dict[str, tuple[HeadFigures, ...]] = {}
    with show_progress("fitting baselines") as step:
        step.total(len(names))
        for name in names:
            probs = fit_baselines([name], samples, learned, validated)[name](samples, newest)
            held_out[name] = head_figures(samples.labels[rows], probs, samples.baseline[rows], samples, positives)
            step.advance()
    histories, wanted = wanted_posts(samples, newest)
    corpus = np.unique(np.concatenate([samples.text_posts, samples.post_ids]))
    likings = Interactions.of(samples, learned)
    recalls: dict[str, dict[str, float]] = {}
    for name in [name for name in FITS if name in names and name in SCORERS]:
        ranks = ranks_of(SCORERS[name](likings), histories, wanted, corpus)
        recalls[name] = {f"recall@{k}": recall_at(ranks, k) for k in CUTOFFS}
    return MeasuredBaselines(
        n_slates=len(learned),
        n_rows=len(seen),
        held_out=held_out,
        recall=recalls,
        n_wanted=len(wanted),
        n_corpus=len(corpus),
    )
