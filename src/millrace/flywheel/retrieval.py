"""Recall: which of the posts that viewers acted on would have been found among everything there was.

For a sample of rows with a positive label the whole live corpus is ranked as of that moment, and the place of the post
that was acted on is kept; beside it, whether any source of the feed finds the post at all. A ranker that puts it on
place 300 of 50,000 has recall@1000 but not recall@100.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec import Struct

from millrace.flywheel.bootstrap import ViewerBootstrap, interval
from millrace.flywheel.evaluation import Estimate, EvaluationOptions
from millrace.flywheel.metrics import BoolArray, Float64Array, IntArray, recall_at
from millrace.flywheel.samples import SampleFacts, slices_of

ANY: Final = "any"
"""All deliberate positive actions together."""

CUTOFFS: Final = (10, 100, 1000)


@dataclass(frozen=True, slots=True)
class Retrievals:
    """The sampled rows: every array has shape (n,) but ``labels``.

    Attributes
    ----------
    facts
        What slices are made of.
    labels
        Shape (n, n_actions), bool: what was done.
    ranks
        int64: the post's place in the corpus, from 1.
    n_live
        int64: how many posts were ranked.
    is_found
        Whether any source of the feed returned it.
    """

    facts: SampleFacts
    labels: BoolArray
    ranks: IntArray
    n_live: IntArray
    is_found: BoolArray


class RecallRow(Struct, frozen=True, kw_only=True):
    """One action on one slice; ``metrics`` is empty and ``note`` says why where there are too few."""

    action: str
    slice: str
    n: int
    n_live: int
    metrics: dict[str, Estimate] = {}
    note: str = ""


def sample_positives(labels: BoolArray, n_wanted: int, seed: int) -> IntArray:
    """Return a seeded sample of the rows with any of the labels, ascending."""
    rows = np.flatnonzero(labels.any(axis=1))
    if len(rows) <= n_wanted:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, n_wanted, replace=False))


def recall_table(
    found: Retrievals,
    actions: Mapping[int, str],
    language_names: Mapping[int, str],
    options: EvaluationOptions,
    cutoffs: Sequence[int] = CUTOFFS,
) -> list[RecallRow]:
    """Return recall by action and slice, all actions together first."""
    if not len(found.ranks):
        return []
    bootstrap = ViewerBootstrap(found.facts.viewers, options.n_resamples, options.seed)
    slices = slices_of(found.facts, language_names)
    wanted: dict[str, BoolArray] = {ANY: np.ones(len(found.ranks), dtype=np.bool_)}
    wanted |= {name: found.labels[:, column] for column, name in actions.items()}
    table = []
    for action, is_wanted in wanted.items():
        for name, rows in slices.items():
            chosen = rows[is_wanted[rows]]
            if len(chosen):
                table.append(_row(action, name, found, chosen, bootstrap, options, cutoffs))
    return table


def _row(
    action: str,
    name: str,
    found: Retrievals,
    rows: IntArray,
    bootstrap: ViewerBootstrap,
    options: EvaluationOptions,
    cutoffs: Sequence[int],
) -> RecallRow:
    note = "" if len(rows) >= options.min_positives else f"too few: {len(rows)} of at least {options.min_positives}"
    n_live = int(np.median(found.n_live[rows]))
    estimates = {} if note else dict(_estimates(found, rows, bootstrap, cutoffs))
    return RecallRow(action=action, slice=name, n=len(rows), n_live=n_live, metrics=estimates, note=note)


def _estimates(
    found: Retrievals, rows: IntArray, bootstrap: ViewerBootstrap, cutoffs: Sequence[int]
) -> Iterator[tuple[str, Estimate]]:
    ranks, ones = found.ranks[rows], np.ones(len(rows))

    def resampled(hits: BoolArray) -> Float64Array:
        return bootstrap.ratio(hits.astype(np.float64), ones, rows)

    for k in cutoffs:
        yield f"recall@{k}", Estimate.of(interval(recall_at(ranks, k), resampled(ranks <= k)))
    is_found = found.is_found[rows]
    yield "sources", Estimate.of(interval(float(is_found.mean()), resampled(is_found)))
