"""`EngagementIndex`: who did what to a post, in both directions, and the posts that people one follows acted on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.actions import SOCIAL_PROOF
from millrace.base.ids import NO_ID, Int64Array
from millrace.base.int_table import Int32Array, slot_of, table_get
from millrace.base.kernels import njit
from millrace.stores.engagement_state import N_INDEX_WORDS, EngagementState
from millrace.stores.slab_lists import COUNT, Slab, SlabLists, slab_slot

BoolArray = npt.NDArray[np.bool_]

N_PROOFS: int = 3
"""How many of the people who acted on a post are named."""

_N_PROOFS = N_PROOFS


class Engagers(NamedTuple):
    """The newest indexed actions on one post, oldest first; every array has shape (n,)."""

    user_ids: Int64Array
    actions: npt.NDArray[np.int16]
    times_ms: Int64Array


class Engaged(NamedTuple):
    """The newest indexed actions of one user, oldest first; every array has shape (n,)."""

    post_ids: Int64Array
    actions: npt.NDArray[np.int16]
    times_ms: Int64Array


class SecondDegree(NamedTuple):
    """Posts that seed users acted on in public.

    Attributes
    ----------
    post_ids
        Shape (n,), int64: most proofs first, then the newest proof, then by id.
    n_proofs
        Shape (n,), int32: how many different seeds acted on the post.
    proof_user_ids
        Shape (n, 3), int64: the newest of them, newest first, 0-filled.
    """

    post_ids: Int64Array
    n_proofs: Int32Array
    proof_user_ids: Int64Array


class EngagementIndex:
    """Reads the two-way index of an engagement store: bounded per post and per user, newest kept.

    Parameters
    ----------
    state
        The store's arrays.
    """

    def __init__(self, state: EngagementState) -> None:
        self._state = state
        self._is_proof = np.zeros(256, dtype=np.bool_)
        self._is_proof[[int(action) for action in SOCIAL_PROOF]] = True

    def engagers(self, post_id: int) -> Engagers:
        """Return who acted on a post, oldest first."""
        state = self._state
        row = state.posts.get(post_id)
        stat = int(state.post_columns["stat"][row]) - 1 if row >= 0 else -1
        return Engagers(*_columns(state.engagers, stat))

    def engaged(self, user_id: int) -> Engaged:
        """Return which posts a user acted on, oldest first."""
        return Engaged(*_columns(self._state.engaged, self._state.users.table.get(user_id)))

    def second_degree(
        self,
        seed_ids: Int64Array,
        *,
        since_ms: int,
        max_per_seed: int,
        exclude_user: int,
        max_posts: int,
    ) -> SecondDegree:
        """Return posts that seeds liked, replied to, reposted, quoted or shared since a time.

        Parameters
        ----------
        seed_ids
            Shape (n,), int64: usually the accounts that a viewer follows; repeats count once.
        since_ms
            Older actions prove nothing.
        max_per_seed
            How many of each seed's newest such actions are looked at.
        exclude_user
            The viewer: no proof, and none of their own posts; 0 for nobody.
        max_posts
            How many at most.
        """
        state = self._state
        users = state.users.table
        seeds = np.unique(np.asarray(seed_ids, dtype=np.int64))
        found = _collect(
            users.keys,
            users.values,
            state.engaged.slab,
            self._is_proof,
            seeds,
            since_ms,
            max_per_seed,
            exclude_user,
        )
        order = self._best(found, exclude_user, max_posts)
        return SecondDegree(found.post_ids[order], found.n_proofs[order], found.proofs[order])

    def _best(self, found: _Found, exclude_user: int, max_posts: int) -> npt.NDArray[np.intp]:
        """Return the rows of the best posts that still live and are not the viewer's own.

        Whether a post lives costs a look into a large table: only the best are looked up, in growing helpings.
        """
        n = len(found.post_ids)
        n_looked = min(n, 2 * max_posts + 64)
        while True:
            # Most proofs first, then the newest: times have 53 bits at most, of which 48 are enough until 10889.
            rank = (found.n_proofs.astype(np.int64) << 48) + found.newest_ms
            rows = np.argpartition(rank, n - n_looked)[n - n_looked :] if n_looked < n else np.arange(n)
            if n_looked < n:
                # A tie at the edge must not depend on how argpartition cuts: take all that are equal to the last.
                rows = np.flatnonzero(rank >= rank[rows].min())
            rows = rows[np.lexsort((found.post_ids[rows], -rank[rows]))]
            rows = rows[self._is_shown(found.post_ids[rows], exclude_user)]
            if len(rows) >= max_posts or n_looked >= n:
                return rows[:max_posts]
            n_looked = min(n, 4 * n_looked)

    def _is_shown(self, post_ids: Int64Array, exclude_user: int) -> BoolArray:
        columns = self._state.post_columns
        rows = self._state.posts.get_many(post_ids)
        at = np.maximum(rows, 0)
        is_shown: BoolArray = (rows >= 0) & (columns["flags"][at] == 0)
        if exclude_user != NO_ID:
            is_shown &= columns["author_id"][at] != exclude_user
        return is_shown


class _Found(NamedTuple):
    post_ids: Int64Array
    n_proofs: Int32Array
    newest_ms: Int64Array
    proofs: Int64Array


def _columns(rings: SlabLists, row: int) -> tuple[Int64Array, npt.NDArray[np.int16], Int64Array]:
    words = rings.read(row) if row >= 0 else np.zeros((0, N_INDEX_WORDS), dtype=np.int64)
    return words[:, 0].copy(), (words[:, 1] & 0xFF).astype(np.int16), words[:, 1] >> 8


@njit(cache=True)
def _collect(
    user_keys: Int64Array,
    user_values: Int32Array,
    engaged: Slab,
    is_proof: BoolArray,
    seeds: Int64Array,
    since_ms: int,
    max_per_seed: int,
    exclude_user: int,
) -> _Found:
    """Group the seeds' newest proofs by post, in a small hash table of its own."""
    bound = np.int64(0)
    rows = np.empty(len(seeds), dtype=np.int64)
    for i in range(len(seeds)):
        rows[i] = table_get(user_keys, user_values, seeds[i]) if seeds[i] != exclude_user else -1
        if rows[i] >= 0:
            bound += np.int64(min(engaged.rows[rows[i], COUNT], max_per_seed))
    size = 64
    while size < 2 * bound:
        size *= 2
    slots = np.zeros(size, dtype=np.int32)
    post_ids = np.empty(bound, dtype=np.int64)
    n_proofs = np.empty(bound, dtype=np.int32)
    last_seed = np.empty(bound, dtype=np.int64)
    proofs = np.zeros((bound, _N_PROOFS), dtype=np.int64)
    proof_ms = np.zeros((bound, _N_PROOFS), dtype=np.int64)
    n = 0
    mask = np.int64(size - 1)
    for i in range(len(seeds)):
        row = rows[i]
        if row < 0:
            continue
        n_taken = 0
        for k in range(engaged.rows[row, COUNT] - 1, -1, -1):
            if n_taken == max_per_seed:
                break
            slot = slab_slot(engaged, row, k)
            at_ms = engaged.words[slot, 1] >> 8
            if at_ms < since_ms or not is_proof[engaged.words[slot, 1] & 0xFF]:
                continue
            n_taken += 1
            post_id = engaged.words[slot, 0]
            place = slot_of(post_id, mask)
            while slots[place] != 0 and post_ids[slots[place] - 1] != post_id:
                place = (place + 1) & mask
            if slots[place] == 0:
                post_ids[n] = post_id
                n_proofs[n] = 0
                last_seed[n] = 0
                n += 1
                slots[place] = n
            j = slots[place] - 1
            if last_seed[j] == seeds[i]:
                continue  # its newest action on the post was counted already
            last_seed[j] = seeds[i]
            _insert_proof(proofs[j], proof_ms[j], seeds[i], at_ms)
            n_proofs[j] += 1
    return _Found(post_ids[:n], n_proofs[:n], proof_ms[:n, 0].copy(), proofs[:n])


@njit(cache=True)
def _insert_proof(users: Int64Array, times: Int64Array, user_id: int, at_ms: int) -> None:
    """Keep the newest proofs, newest first, ties by user id."""
    for p in range(_N_PROOFS):
        if users[p] == 0 or at_ms > times[p] or (at_ms == times[p] and user_id < users[p]):
            for q in range(_N_PROOFS - 1, p, -1):
                users[q] = users[q - 1]
                times[q] = times[q - 1]
            users[p] = user_id
            times[p] = at_ms
            return
