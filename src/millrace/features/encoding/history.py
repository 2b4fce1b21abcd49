"""A viewer's history as tokens: one a post that they took an interest in, newest last, with all that was done to it."""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="assignment"

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.features.encoding.buckets import UInt8Array, minute_buckets, second_buckets
from millrace.stores.histories import History

UInt64Array = npt.NDArray[np.uint64]

MAX_HISTORY: Final = 128
"""Newest posts that a history token is made of."""

WEAK: Final = (Action.NOT_DWELLED, Action.DWELL_TIME)
"""What makes no token by itself: four looks in five pass a post by, and would push what tells something out."""

N_HISTORY_DENSE: Final = 3
"""Dwell, gap to the next newer token, and age against the newest: a byte each."""


_WEAK_BITS: Final = np.uint64(sum(1 << action for action in WEAK))


class HistoryTokens(NamedTuple):
    """One token for each of the newest posts that a viewer acted on or looked at for long, oldest first; shapes (n,).

    Nothing here depends on the time of a request, so that what a model makes of it can be kept until the viewer acts.

    Attributes
    ----------
    post_ids, author_ids
        int64; an author not known at the time is 0.
    actions
        uint64: bit ``a`` for action ``a`` of the `ActionSpace`.
    dense
        Shape (n, 3), uint8: seconds of dwell, minutes to the next newer token, minutes to the newest; in buckets.
    surfaces
        uint8: where it happened, a `millrace.base.surfaces.Surface`; 0 unknown.
    newest_ms
        Time of the newest action; 0 for an empty history.
    """

    post_ids: Int64Array
    author_ids: Int64Array
    actions: UInt64Array
    dense: UInt8Array
    surfaces: UInt8Array
    newest_ms: int

    @property
    def n(self) -> int:
        """How many tokens."""
        return len(self.post_ids)

    def newest(self, n: int) -> HistoryTokens:
        """Return the newest ``n`` tokens, all of them if there are no more."""
        if self.n <= n:
            return self
        first = self.n - n
        return HistoryTokens(
            self.post_ids[first:],
            self.author_ids[first:],
            self.actions[first:],
            self.dense[first:],
            self.surfaces[first:],
            self.newest_ms,
        )


def history_tokens(history: History, max_tokens: int = MAX_HISTORY) -> HistoryTokens:
    """Return the tokens of the newest ``max_tokens`` different posts of a history.

    A token stands where its post's newest action does, those of `WEAK` apart; its dwell is the longest, its
    surface that of the newest of them that tells one (of `WEAK` ones, where no other does).
    """
    posts, authors, actions, times_ms, dwell_ms, surfaces = _group(
        history.post_ids,
        history.author_ids,
        history.actions,
        history.times_ms,
        history.dwell_ms,
        history.surfaces,
        _WEAK_BITS,
        max_tokens,
    )
    newest_ms = int(times_ms[-1]) if len(times_ms) else 0
    dense = np.zeros((len(posts), N_HISTORY_DENSE), dtype=np.uint8)
    dense[:, 0] = second_buckets(dwell_ms)
    dense[:-1, 1] = minute_buckets(np.diff(times_ms))
    dense[:, 2] = minute_buckets(newest_ms - times_ms)
    return HistoryTokens(posts, authors, actions, dense, surfaces, newest_ms)


@njit(cache=True)
def _group(
    post_ids: Int64Array,
    author_ids: Int64Array,
    actions: npt.NDArray[np.int16],
    times_ms: Int64Array,
    dwell_ms: Int32Array,
    surface_codes: UInt8Array,
    weak_bits: np.uint64,
    max_tokens: int,
) -> tuple[Int64Array, Int64Array, UInt64Array, Int64Array, Int32Array, UInt8Array]:
    posts = np.zeros(max_tokens, dtype=np.int64)
    authors = np.zeros(max_tokens, dtype=np.int64)
    bits = np.zeros(max_tokens, dtype=np.uint64)
    times = np.zeros(max_tokens, dtype=np.int64)
    dwells = np.zeros(max_tokens, dtype=np.int32)
    surfaces = np.zeros(max_tokens, dtype=np.uint8)
    size = 4 * max_tokens
    slots = np.full(size, -1, dtype=np.int32)
    n = 0
    # First what makes tokens; then what was done besides to posts that have one, older or newer.
    for is_weak_turn in (False, True):
        for k in range(len(post_ids) - 1, -1, -1):
            bit = np.uint64(1) << np.uint64(actions[k])
            if (bit & weak_bits != np.uint64(0)) != is_weak_turn:
                continue
            post = post_ids[k]
            # At most a quarter of the slots is ever taken.
            slot = np.int64((np.uint64(post) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)) % size
            while slots[slot] >= 0 and posts[slots[slot]] != post:
                slot = (slot + 1) % size
            token = np.int64(slots[slot])
            if token < 0:
                if is_weak_turn or n == max_tokens:
                    continue  # a post older than all that are kept; older actions on newer posts still count
                token = np.int64(n)
                slots[slot] = n
                posts[token] = post
                authors[token] = author_ids[k]
                times[token] = times_ms[k]
                n += 1
            bits[token] |= bit
            dwells[token] = max(dwells[token], dwell_ms[k])
            if authors[token] == 0:
                authors[token] = author_ids[k]
            if surfaces[token] == 0:
                surfaces[token] = surface_codes[k]
    return (
        posts[:n][::-1].copy(),
        authors[:n][::-1].copy(),
        bits[:n][::-1].copy(),
        times[:n][::-1].copy(),
        dwells[:n][::-1].copy(),
        surfaces[:n][::-1].copy(),
    )


def group_reference(history: History, max_tokens: int) -> list[tuple[int, int, int, int, int, int]]:
    """Return (post, author, action bits, time, dwell, surface) of each token, oldest first, in plain Python."""
    tokens: dict[int, list[int]] = {}
    rows = [tuple(row) for row in zip(*(column.tolist() for column in history), strict=True)][::-1]
    strong = [row for row in rows if row[2] not in WEAK]
    for post, author, action, time_ms, dwell_ms, surface in [*strong, *(row for row in rows if row[2] in WEAK)]:
        if post not in tokens and (action in WEAK or len(tokens) == max_tokens):
            continue
        token = tokens.setdefault(post, [author, 0, time_ms, 0, 0])
        token[0] = token[0] or author
        token[1] |= 1 << action
        token[3] = max(token[3], dwell_ms)
        token[4] = token[4] or surface
    return [(post, *values) for post, values in reversed(tokens.items())]  # type: ignore[misc]
