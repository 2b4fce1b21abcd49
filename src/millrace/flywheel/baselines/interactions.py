"""Who liked what: the pairs of viewers and posts that collaborative baselines learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from millrace.base.actions import DERIVED, POSITIVE
from millrace.base.ids import Int64Array
from millrace.flywheel.baselines.libraries import library
from millrace.flywheel.sample_set import SampleSet, ranges, starts_of
from millrace.pipeline.ragged import Ragged

LIKINGS: Final = tuple(sorted(int(action) for action in POSITIVE - DERIVED))
"""Columns of the actions that say, on purpose, that a post is liked."""

_LIKING_BITS: Final = np.uint64(sum(1 << column for column in LIKINGS))


@dataclass(frozen=True, slots=True)
class Interactions:
    """Pairs, each once.

    Attributes
    ----------
    posts
        Shape (n_posts,), int64, ascending.
    viewers
        Shape (n_pairs,), int64: numbers from 0.
    columns
        Shape (n_pairs,), int64: places in ``posts``.
    n_viewers
        How many there are.
    """

    posts: Int64Array
    viewers: Int64Array
    columns: Int64Array
    n_viewers: int

    @classmethod
    def of(cls, samples: SampleSet, slates: Int64Array) -> Interactions:
        """Return the likings in some slates: those on the page, and those that viewers' histories already held."""
        histories = liked_histories(samples, slates)
        rows = samples.rows_of(slates)
        is_liked = (samples.labels[rows][:, LIKINGS] > 0).any(axis=1)
        viewers = samples.viewers[slates]
        on_page = np.repeat(viewers, np.diff(samples.starts)[slates])[is_liked]
        who = np.concatenate([np.repeat(viewers, histories.lengths), on_page])
        what = np.concatenate([histories.values, samples.post_ids[rows][is_liked]])
        known, viewer = np.unique(who, return_inverse=True)
        posts, column = np.unique(what, return_inverse=True)
        pairs = np.unique(viewer * len(posts) + column)
        return cls(posts, pairs // max(len(posts), 1), pairs % max(len(posts), 1), len(known))

    def matrix(self) -> Any:
        """Return the pairs as a sparse matrix of ones, shape (n_viewers, n_posts), `scipy.sparse.csr_matrix`."""
        return _sparse(self.viewers, self.columns, (self.n_viewers, len(self.posts)))

    def columns_of(self, post_ids: Int64Array) -> Int64Array:
        """Return posts' places in ``posts``, shape as given; -1 for those that nobody liked."""
        if not len(self.posts):
            return np.full(post_ids.shape, -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.posts, post_ids), len(self.posts) - 1)
        return np.where(self.posts[at] == post_ids, at, -1)

    def rows_of(self, histories: Ragged) -> Any:
        """Return histories as a sparse matrix of ones, shape (n, n_posts); what nobody liked is left out."""
        column = self.columns_of(histories.values)
        is_known = column >= 0
        return _sparse(histories.row_of_value()[is_known], column[is_known], (len(histories), len(self.posts)))


def liked_histories(samples: SampleSet, slates: Int64Array) -> Ragged:
    """Return the posts that the viewers of some slates had liked before, oldest first."""
    starts, ends = samples.history_starts[slates], samples.history_starts[slates + 1]
    tokens = ranges(starts, ends)
    is_liked = (samples.history_actions[tokens] & _LIKING_BITS) != 0
    slate = np.repeat(np.arange(len(slates)), ends - starts)[is_liked]
    lengths = np.bincount(slate, minlength=len(slates))
    return Ragged(np.asarray(samples.history_posts[tokens[is_liked]]), starts_of(lengths))


def _sparse(rows: Int64Array, columns: Int64Array, shape: tuple[int, int]) -> Any:
    pairs = np.unique(rows * max(shape[1], 1) + columns)
    where = (pairs // max(shape[1], 1), pairs % max(shape[1], 1))
    return library("scipy.sparse").csr_matrix((np.ones(len(pairs), dtype=np.float32), where), shape=shape)
