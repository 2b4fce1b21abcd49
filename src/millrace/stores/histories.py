"""`Histories`: what each user did lately, oldest first; how active users are; and whom they like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.base.order import top_k
from millrace.stores.decayed_rows import Float32Array, Float64Array
from millrace.stores.engagement_arrays import DWELL_SHIFT, SURFACE_SHIFT
from millrace.stores.engagement_state import N_HISTORY_WORDS, EngagementState
from millrace.stores.slab_lists import COUNT, Slab, slab_slot


class History(NamedTuple):
    """A user's newest actions, oldest first; every array has shape (n,).

    Attributes
    ----------
    post_ids, author_ids
        int64; an author not known at the time is 0.
    actions
        int16 codes of the `ActionSpace`.
    times_ms
        int64 epoch milliseconds.
    dwell_ms
        int32: the longest dwell, for entries of the dwell family; 0 for others.
    surfaces
        uint8 codes of `Surface`: where it happened, of a dwell the event that made it the longest; 0 unknown.
    """

    post_ids: Int64Array
    author_ids: Int64Array
    actions: npt.NDArray[np.int16]
    times_ms: Int64Array
    dwell_ms: Int32Array
    surfaces: npt.NDArray[np.uint8]

    def __bool__(self) -> bool:
        return len(self.post_ids) > 0


class Histories:
    """Reads the histories of an engagement store.

    A history holds one entry per action that holds (an undo removes it) and one per post dwelled on: its strongest of
    complete, dwell, not_dwelled, dwell_time (neither short nor a valid view).

    Parameters
    ----------
    state
        The store's arrays.
    affinity_half_life_ms
        How fast liking an author fades.
    """

    def __init__(self, state: EngagementState, affinity_half_life_ms: int) -> None:
        self._state = state
        self._affinity_rate = 1.0 / affinity_half_life_ms

    def history(self, user_id: int, max_actions: int | None = None) -> History:
        """Return a user's newest actions (all that are kept, unless ``max_actions`` says fewer), oldest first."""
        row = self._state.users.table.get(user_id)
        words = self._state.histories.read(row) if row >= 0 else np.zeros((0, N_HISTORY_WORDS), dtype=np.int64)
        if max_actions is not None:
            words = words[max(len(words) - max_actions, 0) :]
        return History(
            post_ids=words[:, 0].copy(),
            author_ids=words[:, 1].copy(),
            actions=(words[:, 3] & 0xFF).astype(np.int16),
            times_ms=words[:, 2].copy(),
            dwell_ms=(words[:, 3] >> DWELL_SHIFT & 0xFFFFFFFF).astype(np.int32),
            surfaces=(words[:, 3] >> SURFACE_SHIFT).astype(np.uint8),
        )

    def n_actions(self, user_ids: Int64Array) -> Int32Array:
        """Return how many actions are kept of users, shape (n,), int32."""
        rows = self._state.users.table.get_many(user_ids)
        counts = self._state.histories.counts()[np.maximum(rows, 0)].copy()
        counts[rows < 0] = 0
        return counts

    def most_active(self, k: int) -> Int64Array:
        """Return the users with the longest histories, longest first, ties by id, shape (at most k,), int64."""
        n = len(self._state.users.table)
        counts = self._state.histories.counts()[:n].astype(np.float64)
        ids = self._state.users.ids[:n]
        return ids[top_k(counts, ids, k)]

    def author_affinity(self, viewer_id: int, author_ids: Int64Array, now_ms: int) -> Float32Array:
        """Return how much a viewer likes authors: decayed, weighted positive actions in the history, shape (n,)."""
        row = self._state.users.table.get(viewer_id)
        weights = np.exp2(self._state.settings.log2_heat)
        return _affinity(self._state.histories.slab, row, author_ids, weights, self._affinity_rate, now_ms)


@njit(cache=True)
def _affinity(
    histories: Slab,
    row: int,
    author_ids: Int64Array,
    weights: Float64Array,
    rate_per_ms: float,
    now_ms: int,
) -> Float32Array:
    out = np.zeros(len(author_ids), dtype=np.float32)
    if row < 0 or len(author_ids) == 0:
        return out
    count = histories.rows[row, COUNT]
    authors = np.empty(count, dtype=np.int64)
    likings = np.empty(count, dtype=np.float64)
    n = 0
    for k in range(count):
        record = histories.words[slab_slot(histories, row, k)]
        weight = weights[record[3] & 0xFF]
        if weight > 0.0 and record[1] != 0:
            authors[n] = record[1]
            likings[n] = weight * 2.0 ** (-max(now_ms - record[2], 0) * rate_per_ms)
            n += 1
    if n == 0:
        return out
    order = np.argsort(authors[:n], kind="mergesort")
    sums = np.empty(n, dtype=np.float64)
    liked = np.empty(n, dtype=np.int64)
    m = 0
    for k in range(n):
        author = authors[order[k]]
        if m == 0 or liked[m - 1] != author:
            liked[m] = author
            sums[m] = 0.0
            m += 1
        sums[m - 1] += likings[order[k]]
    places = np.searchsorted(liked[:m], author_ids)
    for i in range(len(author_ids)):
        if places[i] < m and liked[places[i]] == author_ids[i]:
            out[i] = np.float32(sums[places[i]])
    return out
