"""Recall of a retriever on held-out positives: at which place of all live posts each one stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.flywheel.catalogue import BoolArray, Catalogue
from millrace.flywheel.sample_set import SampleSet, ranges

CUTOFFS: Final = (100, 500)
COLD: Final = 10
"""A post that was shown less often is cold."""

_AT_ONCE: Final = 256

Scores = Callable[[Int64Array], npt.NDArray[np.floating]]
"""Gives the scores of every post of a catalogue for some slates' viewers, shape (n_slates, n_posts)."""


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """Share of positives found.

    Attributes
    ----------
    n
        Positives.
    at
        By cutoff: the share of them among so many best. Of the cold ones, see `COLD`, in ``cold_at``.
    """

    n: int
    n_live: float
    at: dict[int, float]
    n_cold: int
    cold_at: dict[int, float]


def held_out_ranks(
    scores: Scores,
    samples: SampleSet,
    catalogue: Catalogue,
    is_positive: BoolArray,
    slates: Int64Array,
    max_age_ms: int,
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return the place of every positive of some slates among the posts that its viewer may be shown.

    Those are the posts that were there at the time, without those of the viewer's history: what is known by then must
    not take a place. Ties count against it.

    Parameters
    ----------
    scores
        The retriever.
    samples, is_positive
        Where the positives are; shape (n_rows,).
    catalogue
        All posts.
    slates
        Which, shape (s,).
    max_age_ms
        How old a live post may be.

    Returns
    -------
    tuple
        Rows of the samples, places from 1, and how many posts each was ranked among; shape (n,), int64.
    """
    found: list[Int64Array] = []
    at_all = catalogue.find(np.asarray(samples.post_ids))
    everything = np.arange(len(catalogue))
    for first in range(0, len(slates), _AT_ONCE):
        some = slates[first : first + _AT_ONCE]
        rows = samples.rows_of(some)
        slate = np.repeat(np.arange(len(some)), np.diff(samples.starts)[some])
        keep = is_positive[rows] & (at_all[rows] >= 0)
        rows, slate = rows[keep], slate[keep]
        may = catalogue.is_live(everything, np.asarray(samples.now_ms)[some], max_age_ms)
        starts, ends = samples.history_starts[some], samples.history_starts[some + 1]
        known = catalogue.find(np.asarray(samples.history_posts)[ranges(starts, ends)])
        of_slate = np.repeat(np.arange(len(some)), ends - starts)[known >= 0]
        may[of_slate, known[known >= 0]] = False
        ranked = np.where(may, scores(some), -np.inf)
        own = scores_at(ranked, slate, at_all[rows])
        is_ranked = np.isfinite(own)  # the others' ages are known too roughly
        rows, slate, own = rows[is_ranked], slate[is_ranked], own[is_ranked]
        places = (ranked[slate] >= own[:, None]).sum(axis=1)
        found.append(np.stack([rows, places, may.sum(axis=1)[slate]]).astype(np.int64))
    if not found:
        none = np.empty(0, dtype=np.int64)
        return none, none, none
    rows, places, n_live = np.concatenate(found, axis=1)
    return rows, places, n_live


def scores_at(
    scores: npt.NDArray[np.floating], slates: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]
) -> npt.NDArray[np.floating]:
    """Return one score a pair, shape (n,)."""
    found: npt.NDArray[np.floating] = scores[slates, columns]
    return found


def recall_of(
    places: Int64Array, n_live: Int64Array, n_shown: Int64Array, cutoffs: tuple[int, ...] = CUTOFFS
) -> Recall:
    """Return the recall of ranked positives.

    Parameters
    ----------
    places, n_live
        From `held_out_ranks`.
    n_shown
        Shape (n,): how often each one's post was shown to anybody before.
    cutoffs
        How many best.
    """
    is_cold = n_shown < COLD

    def shares(some: Int64Array) -> dict[int, float]:
        return {k: float((some <= k).mean()) if len(some) else 0.0 for k in cutoffs}

    return Recall(
        n=len(places),
        n_live=float(n_live.mean()) if len(n_live) else 0.0,
        at=shares(places),
        n_cold=int(is_cold.sum()),
        cold_at=shares(places[is_cold]),
    )


def shown_before(samples: SampleSet, rows: Int64Array) -> Int64Array:
    """Return how often rows' posts had been shown in the samples before, shape (n,), int64."""
    posts, times = np.asarray(samples.post_ids), np.asarray(samples.now_ms)[samples.slate_of]
    order = np.lexsort((times, posts))
    ids, first = np.unique(posts[order], return_index=True)
    ends = np.append(first[1:], len(order))
    group = np.searchsorted(ids, posts[rows])
    sorted_times = times[order]
    counts = [
        int(np.searchsorted(sorted_times[first[g] : ends[g]], now))
        for g, now in zip(group.tolist(), times[rows].tolist(), strict=True)
    ]
    return np.array(counts, dtype=np.int64)


def popularity_scores(samples: SampleSet, catalogue: Catalogue, is_positive: BoolArray) -> Scores:
    """Return a retriever by how often posts had been positives before: the same for everybody, never too fresh."""
    at = catalogue.find(np.asarray(samples.post_ids))
    times = np.asarray(samples.now_ms)[samples.slate_of]
    rows = np.flatnonzero(is_positive & (at >= 0))
    rows = rows[np.argsort(times[rows], kind="stable")]
    at, times = at[rows], times[rows]

    def scores(slates: Int64Array) -> npt.NDArray[np.floating]:
        out = np.empty((len(slates), len(catalogue)), dtype=np.float32)
        for i, now in enumerate(np.asarray(samples.now_ms)[slates].tolist()):
            n = int(np.searchsorted(times, now))
            out[i] = np.bincount(at[:n], minlength=len(catalogue))
        return out

    return scores


def compared(retrievers: Mapping[str, Scores], *, rank: Callable[[Scores], Recall]) -> dict[str, Recall]:
    """Return the recall of several retrievers on the same positives."""
    return {name: rank(scores) for name, scores in retrievers.items()}
