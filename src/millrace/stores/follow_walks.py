"""Two steps along the follow graph: whom the accounts that one follows follow."""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, call-overload, index, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from millrace.base.ids import NO_ID, Int64Array
from millrace.base.int_table import Int32Array
from millrace.base.kernels import njit
from millrace.base.order import top_k
from millrace.stores.follow_graph import FollowGraph
from millrace.stores.grouping import group_slot, group_table
from millrace.stores.row_table import Rows, rows_find
from millrace.stores.slab_lists import COUNT, Slab, slab_slot

_LEFT_OUT = -1


class Friends(NamedTuple):
    """Accounts that seeds follow.

    Attributes
    ----------
    user_ids
        Shape (n,), int64: those that most seeds follow first, ties by id.
    n_seeds
        Shape (n,), int32: how many of the seeds follow each.
    """

    user_ids: Int64Array
    n_seeds: Int32Array


def friends_of_friends(
    graph: FollowGraph,
    seed_ids: Int64Array,
    *,
    max_per_seed: int,
    left_out: Int64Array,
    min_seeds: int,
    max_users: int,
) -> Friends:
    """Return the accounts that most seeds follow.

    Parameters
    ----------
    graph
        Who follows whom.
    seed_ids
        Shape (n,), int64: usually accounts that a viewer follows; repeats count once.
    max_per_seed
        How many of each seed's newest follows are looked at.
    left_out
        Shape (m,), int64: accounts that are no answer (the viewer, whom they follow already, blocks).
    min_seeds
        How many seeds must follow an account.
    max_users
        How many accounts at most.
    """
    arrays = graph.kernel
    user_ids, n_seeds = _count_friends(
        arrays.users, arrays.following, np.unique(seed_ids), max_per_seed, np.array(left_out, dtype=np.int64)
    )
    is_enough = n_seeds >= max(min_seeds, 1)
    user_ids, n_seeds = user_ids[is_enough], n_seeds[is_enough]
    order = top_k(n_seeds.astype(np.float64), user_ids, max_users)
    return Friends(user_ids[order], n_seeds[order])


@njit(cache=True)
def _count_friends(
    users: Rows, following: Slab, seeds: Int64Array, max_per_seed: int, left_out: Int64Array
) -> tuple[Int64Array, Int32Array]:
    """Return everybody whom seeds follow and how many do; accounts left out have a count below 1."""
    bound = np.int64(len(left_out))
    rows = np.empty(len(seeds), dtype=np.int64)
    for i in range(len(seeds)):
        rows[i] = rows_find(users, seeds[i]) if seeds[i] != NO_ID else -1
        if rows[i] >= 0:
            bound += min(np.int64(following.rows[rows[i], COUNT]), max_per_seed)
    places = group_table(bound)
    ids = np.empty(bound, dtype=np.int64)
    counts = np.empty(bound, dtype=np.int32)
    n = 0
    for user in left_out:
        slot = group_slot(places, ids, user)
        if places[slot] == 0:
            ids[n], counts[n] = user, _LEFT_OUT
            n += 1
            places[slot] = n
    for row in rows:
        if row < 0:
            continue
        n_follows = np.int64(following.rows[row, COUNT])
        for k in range(max(n_follows - max_per_seed, 0), n_follows):
            user = following.words[slab_slot(following, row, k), 0]
            slot = group_slot(places, ids, user)
            if places[slot] == 0:
                ids[n], counts[n] = user, 0
                n += 1
                places[slot] = n
            place = places[slot] - 1
            if counts[place] != _LEFT_OUT:
                counts[place] += 1
    return ids[:n], counts[:n]


def friends_of_friends_reference(
    graph: FollowGraph,
    seed_ids: Int64Array,
    *,
    max_per_seed: int,
    left_out: Int64Array,
    min_seeds: int,
    max_users: int,
) -> Friends:
    """Return the same as `friends_of_friends`, in plain Python."""
    counts: Counter[int] = Counter()
    for seed in set(seed_ids.tolist()):
        follows = graph.following(seed).tolist()
        counts.update(follows[max(len(follows) - max_per_seed, 0) :])
    kept = {user: n for user, n in counts.items() if n >= max(min_seeds, 1) and user not in set(left_out.tolist())}
    best = sorted(kept, key=lambda user: (-kept[user], user))[:max_users]
    return Friends(np.array(best, dtype=np.int64), np.array([kept[user] for user in best], dtype=np.int32))
