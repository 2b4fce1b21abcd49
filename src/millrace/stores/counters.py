"""`Counters`: how often what was done to posts, to an author's posts, under a topic; and what is popular now."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.base.order import top_k
from millrace.stores.decayed_rows import DecayedArrays, Float32Array, Float64Array
from millrace.stores.engagement_state import EngagementState


class HotPosts(NamedTuple):
    """The hottest posts, in no order; every array has shape (n,).

    Attributes
    ----------
    post_ids
        int64.
    heat
        float64: the decayed sum of weighted positive actions.
    totals
        float64: the same sum undecayed (by the longest of the post counters' half-lives).
    """

    post_ids: Int64Array
    heat: Float64Array
    totals: Float64Array


class Counters:
    """Reads the counters of an engagement store. Columns are the actions in `ActionSpace` order, then impressions.

    ``dwell_time`` holds seconds; every other column counts viewers: a viewer counts once per post and action.

    Parameters
    ----------
    state
        The store's arrays.
    """

    def __init__(self, state: EngagementState) -> None:
        self._state = state

    @property
    def n_columns(self) -> int:
        """How many columns: one per action, and impressions."""
        return len(self._state.settings.log2_heat)

    @property
    def impressions(self) -> int:
        """The column of impressions: the last."""
        return self.n_columns - 1

    @property
    def n_posts(self) -> int:
        """How many posts are remembered: created, annotated or acted on within the retention."""
        return len(self._state.posts)

    def post_counts(self, post_ids: Int64Array, now_ms: int) -> Float32Array:
        """Return post counters decayed to ``now_ms``.

        Returns
        -------
        numpy.ndarray
            Shape (n, n_half_lives, n_columns), float32, half-lives in the order of ``post_half_lives_ms``; zeros for
            posts to which nothing was done.
        """
        return self._state.post_counts.read(self._stat_rows(post_ids), now_ms)

    def author_counts(self, author_ids: Int64Array, now_ms: int) -> Float32Array:
        """Return counters over all posts of authors, shape (n, n_half_lives, n_columns), float32."""
        return self._state.author_counts.read(self._state.authors.table.get_many(author_ids), now_ms)

    def topic_counts(self, codes: Int32Array, now_ms: int) -> Float32Array:
        """Return counters over all posts of topics, shape (n, n_half_lives, n_columns), float32; code 0 has zeros."""
        return self._state.topic_counts.read(self._topic_rows(codes), now_ms)

    def longest_counts(
        self, post_ids: Int64Array, author_ids: Int64Array, codes: Int32Array, now_ms: int
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Return counters of posts, authors and topics with the last half-life of each, the longest memory.

        Returns
        -------
        tuple
            Shape (n, n_columns) each, float32: the last of what the three methods above return.
        """
        state = self._state
        return (
            state.post_counts.read_last(self._stat_rows(post_ids), now_ms),
            state.author_counts.read_last(state.authors.table.get_many(author_ids), now_ms),
            state.topic_counts.read_last(self._topic_rows(codes), now_ms),
        )

    def post_rows(self, post_ids: Int64Array) -> tuple[DecayedArrays, Int32Array]:
        """Return the counters of posts as kernels take them, and the posts' rows in them (-1: none): read only."""
        return self._state.post_counts.arrays_for_kernels, self._stat_rows(post_ids)

    def tables(
        self,
    ) -> tuple[Int64Array, Int32Array, Int32Array, Int64Array, Int32Array, DecayedArrays, DecayedArrays]:
        """Return what kernels of features read: `millrace.features.store.post_kernels.CountSources`."""
        state = self._state
        posts, authors = state.posts, state.authors.table
        counts = state.post_counts.arrays_for_kernels, state.author_counts.arrays_for_kernels
        return posts.keys, posts.values, state.post_columns["stat"], authors.keys, authors.values, *counts

    def author_rows(self, author_ids: Int64Array) -> tuple[DecayedArrays, Int32Array]:
        """Return the same of authors."""
        rows = self._state.authors.table.get_many(author_ids)
        return self._state.author_counts.arrays_for_kernels, rows

    def observed_counts(self, post_ids: Int64Array) -> Float32Array:
        """Return totals known from elsewhere (`CountsObserved`), shape (n, n_columns), float32; else zeros."""
        places = self._through(post_ids, "observed")
        found = self._state.observed_totals[np.maximum(places, 0)]
        found[places < 0] = 0.0
        return found

    def popular(self, now_ms: int, max_posts: int) -> tuple[Int64Array, Float32Array]:
        """Return the hottest posts, hottest first, ties by id.

        Returns
        -------
        post_ids
            Shape (n,), int64, n at most ``max_posts`` and ``max_popular``.
        heat
            Shape (n,), float32: the decayed sum of weighted positive actions as of ``now_ms``.
        """
        state = self._state
        stats = state.heap[: int(state.heap_n[0])]
        log2_heat = state.heat_columns["heat"][stats]
        post_ids = state.post_columns["post_id"][state.stat_post[stats]]
        order = top_k(log2_heat, post_ids, max_posts)
        heat = np.exp2(log2_heat[order] - now_ms * state.settings.heat_rate_per_ms[0])
        return post_ids[order], heat.astype(np.float32)

    @property
    def heat_half_life_ms(self) -> float:
        """How fast heat fades."""
        return 1.0 / float(self._state.settings.heat_rate_per_ms[0])

    def hot(self, now_ms: int, max_posts: int) -> HotPosts:
        """Return the posts that `popular` returns (and those exactly as hot as the last), with all they ever had."""
        state = self._state
        stats = state.heap[: int(state.heap_n[0])]
        if max_posts < len(stats):
            log2_heat = state.heat_columns["heat"][stats]
            coolest = np.partition(log2_heat, len(stats) - max_posts)[len(stats) - max_posts] if max_posts else np.inf
            stats = stats[log2_heat >= coolest]
        weights = np.exp2(state.settings.log2_heat)
        return HotPosts(
            state.post_columns["post_id"][state.stat_post[stats]],
            np.exp2(state.heat_columns["heat"][stats] - now_ms * state.settings.heat_rate_per_ms[0]),
            _weighted_totals(state.post_counts.arrays_for_kernels, stats, weights, now_ms),
        )

    def authors_of(self, post_ids: Int64Array) -> Int64Array:
        """Return the authors of posts, shape (n,), int64; 0 where the post or its author is not known here."""
        rows = self._state.posts.get_many(post_ids)
        return np.where(rows >= 0, self._state.post_columns["author_id"][np.maximum(rows, 0)], 0)

    def _topic_rows(self, codes: Int32Array) -> Int32Array:
        rows = np.asarray(codes, dtype=np.int32)
        return np.where((rows > 0) & (rows < len(self._state.topic_counts)), rows, np.int32(-1))

    def _stat_rows(self, post_ids: Int64Array) -> Int32Array:
        return self._through(post_ids, "stat")

    def _through(self, post_ids: Int64Array, column: str) -> Int32Array:
        rows = self._state.posts.get_many(post_ids)
        places = self._state.post_columns[column][np.maximum(rows, 0)] - np.int32(1)
        places[rows < 0] = -1
        return places


@njit(cache=True)
def _weighted_totals(rows: DecayedArrays, wanted: Int32Array, weights: Float64Array, now_ms: int) -> Float64Array:
    """Return the weighted sums of rows by the longest half-life, as of ``now_ms``."""
    h = np.argmin(rows.rate_per_ms)  # 0 is "forever"
    rate = rows.rate_per_ms[h]
    out = np.zeros(len(wanted), dtype=np.float64)
    for i in range(len(wanted)):
        row = wanted[i]
        for column in range(len(weights)):
            if weights[column] > 0.0:
                out[i] += weights[column] * rows.values[row, h, column]
        if rate > 0.0:
            out[i] *= 2.0 ** (-(now_ms - rows.base_ms[row]) * rate)
    return out
