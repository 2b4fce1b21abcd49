"""Recall of scorers: of the posts that viewers liked, how many are among the first k of a whole corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from millrace.base.errors import SourceDataError
from millrace.base.ids import Int64Array
from millrace.flywheel.baselines.contract import Scorer
from millrace.flywheel.baselines.interactions import LIKINGS, liked_histories
from millrace.flywheel.metrics import recall_at
from millrace.flywheel.sample_set import SampleSet
from millrace.pipeline.ragged import Ragged

CUTOFFS: Final = (10, 100, 500)
_VIEWERS_AT_ONCE: Final = 64


def wanted_posts(samples: SampleSet, slates: Int64Array) -> tuple[Ragged, Int64Array]:
    """Return what is to be found: one row for each post of some slates that was liked.

    Returns
    -------
    histories
        n rows: what the viewer had liked before.
    posts
        Shape (n,), int64: what they liked then.
    """
    rows = samples.rows_of(slates)
    slate = np.repeat(np.arange(len(slates)), np.diff(samples.starts)[slates])
    is_liked = (samples.labels[rows][:, LIKINGS] > 0).any(axis=1)
    return liked_histories(samples, slates).take(slate[is_liked]), np.asarray(samples.post_ids[rows][is_liked])


def ranks_of(scorer: Scorer, histories: Ragged, posts: Int64Array, corpus: Int64Array) -> Int64Array:
    """Return the place from 1 of each wanted post in a corpus, shape (n,): score descending, ties by id.

    What a viewer has liked before is not offered again, and takes no place.

    Parameters
    ----------
    scorer
        Scores the corpus for each history.
    histories, posts
        n rows of posts liked before, and shape (n,): what is to be found.
    corpus
        Shape (m,), int64: everything that could be retrieved; every wanted post is in it.

    Raises
    ------
    SourceDataError
        If a wanted post is not in the corpus.
    """
    corpus = np.unique(corpus)
    at = np.minimum(np.searchsorted(corpus, posts), max(len(corpus) - 1, 0))
    if len(posts) and (not len(corpus) or not (corpus[at] == posts).all()):
        raise SourceDataError("corpus", problem="lacks a wanted post", remedy="give every post that could be found")
    ranks = np.empty(len(posts), dtype=np.int64)
    for first in range(0, len(posts), _VIEWERS_AT_ONCE):
        some = np.arange(first, min(first + _VIEWERS_AT_ONCE, len(posts)))
        liked = histories.take(some)
        scores = np.array(scorer.scores(liked, corpus), dtype=np.float64)
        mine = scores[np.arange(len(some)), at[some]]
        place = np.minimum(np.searchsorted(corpus, liked.values), len(corpus) - 1)
        is_there = corpus[place] == liked.values
        scores[liked.row_of_value()[is_there], place[is_there]] = -np.inf
        is_ahead = scores > mine[:, None]
        is_ahead |= (scores == mine[:, None]) & (np.arange(len(corpus)) < at[some][:, None])
        ranks[some] = 1 + is_ahead.sum(axis=1)
    return ranks


def recall(
    scorer: Scorer, samples: SampleSet, slates: Int64Array, corpus: Int64Array, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """Return ``recall@k`` of a scorer on some slates' liked posts."""
    histories, posts = wanted_posts(samples, slates)
    ranks = ranks_of(scorer, histories, posts, corpus)
    return {f"recall@{k}": recall_at(ranks, k) for k in cutoffs}
