"""Walks over who engaged with what: the compiled half of `millrace.stores.tastes`.

The index is read from its newest records backwards. Each walk groups what it meets in a small hash table of its own;
an action twice by one user on one post counts once.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, call-overload, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import NO_ID, Int64Array
from millrace.base.int_table import Int32Array, table_get
from millrace.base.kernels import njit
from millrace.stores.decayed_rows import Float64Array
from millrace.stores.grouping import group_slot, group_table
from millrace.stores.slab_lists import COUNT, Slab, slab_slot


class TasteArrays(NamedTuple):
    """What the walks read.

    Attributes
    ----------
    post_keys, post_values
        Table from post id to row.
    stat
        Shape (n_rows,), int32: per row of a post, its list in ``engagers`` plus 1; 0 for none.
    user_keys, user_values
        Table from user id to list in ``engaged``.
    engagers, engaged
        Records of (user id, time and action) and of (post id, time and action), oldest first.
    """

    post_keys: Int64Array
    post_values: Int32Array
    stat: Int32Array
    user_keys: Int64Array
    user_values: Int32Array
    engagers: Slab
    engaged: Slab


@njit(cache=True)
def engager_lists(t: TasteArrays, post_ids: Int64Array) -> Int64Array:
    """Return the list in ``engagers`` of each post, -1 for posts that nobody engaged with."""
    rows = np.empty(len(post_ids), dtype=np.int64)
    for i in range(len(post_ids)):
        rows[i] = table_get(t.post_keys, t.post_values, post_ids[i]) if post_ids[i] != NO_ID else -1
    for i in range(len(post_ids)):
        if rows[i] >= 0:
            rows[i] = np.int64(t.stat[rows[i]]) - 1
    return rows


@njit(cache=True)
def count_engagers(
    t: TasteArrays, post_ids: Int64Array, max_per_post: int, left_out: int
) -> tuple[Int64Array, Int32Array, Int32Array]:
    """Return who engaged with some posts: users, with how many of the posts, how many actions of theirs are kept."""
    engagers, engaged = t.engagers, t.engaged
    lists = engager_lists(t, post_ids)
    bound = np.int64(0)
    for row in lists:
        if row >= 0:
            bound += min(np.int64(engagers.rows[row, COUNT]), max_per_post)
    places = group_table(bound)
    ids = np.empty(bound, dtype=np.int64)
    n_posts = np.empty(bound, dtype=np.int32)
    last_post = np.empty(bound, dtype=np.int64)
    n = 0
    for i in range(len(lists)):
        row = lists[i]
        if row < 0:
            continue
        count = np.int64(engagers.rows[row, COUNT])
        for k in range(count - 1, max(count - max_per_post, 0) - 1, -1):
            user = engagers.words[slab_slot(engagers, row, k), 0]
            if user == left_out:
                continue
            slot = group_slot(places, ids, user)
            if places[slot] == 0:
                ids[n], n_posts[n], last_post[n] = user, 0, -1
                n += 1
                places[slot] = n
            place = places[slot] - 1
            if last_post[place] != i:
                last_post[place] = i
                n_posts[place] += 1
    user_lists = np.empty(n, dtype=np.int64)
    for i in range(n):
        user_lists[i] = table_get(t.user_keys, t.user_values, ids[i])
    n_kept = np.zeros(n, dtype=np.int32)
    for i in range(n):
        if user_lists[i] >= 0:
            n_kept[i] = engaged.rows[user_lists[i], COUNT]
    return ids[:n], n_posts[:n], n_kept


@njit(cache=True)
def sum_engaged(
    t: TasteArrays, user_ids: Int64Array, weights: Float64Array, max_per_user: int
) -> tuple[Int64Array, Float64Array, Int32Array]:
    """Return what some users engaged with lately: posts, the summed weight of their users, how many those are."""
    engaged = t.engaged
    rows = np.empty(len(user_ids), dtype=np.int64)
    bound = np.int64(0)
    for i in range(len(user_ids)):
        rows[i] = table_get(t.user_keys, t.user_values, user_ids[i])
        if rows[i] >= 0:
            bound += min(np.int64(engaged.rows[rows[i], COUNT]), max_per_user)
    places = group_table(bound)
    ids = np.empty(bound, dtype=np.int64)
    sums = np.empty(bound, dtype=np.float64)
    n_users = np.empty(bound, dtype=np.int32)
    last_user = np.empty(bound, dtype=np.int64)
    n = 0
    for i in range(len(rows)):
        row = rows[i]
        if row < 0:
            continue
        count = np.int64(engaged.rows[row, COUNT])
        for k in range(count - 1, max(count - max_per_user, 0) - 1, -1):
            post = engaged.words[slab_slot(engaged, row, k), 0]
            slot = group_slot(places, ids, post)
            if places[slot] == 0:
                ids[n], sums[n], n_users[n], last_user[n] = post, 0.0, 0, -1
                n += 1
                places[slot] = n
            place = places[slot] - 1
            if last_user[place] != i:
                last_user[place] = i
                sums[place] += weights[i]
                n_users[place] += 1
    return ids[:n], sums[:n], n_users[:n]


@njit(cache=True)
def sample_engagers(t: TasteArrays, row: int, max_sample: int, max_edges: int, left_out: int) -> Int64Array:
    """Return the lists of a post's newest engagers, without those who engage with nearly everything."""
    engagers, engaged = t.engagers, t.engaged
    count = np.int64(engagers.rows[row, COUNT])
    users = np.empty(min(count, max_sample), dtype=np.int64)
    lists = np.empty(len(users), dtype=np.int64)
    n = 0
    for k in range(count - 1, -1, -1):
        if n == len(users):
            break
        user = engagers.words[slab_slot(engagers, row, k), 0]
        is_new = user != left_out
        for j in range(n):
            is_new = is_new and users[j] != user
        if not is_new:
            continue
        mine = table_get(t.user_keys, t.user_values, user)
        if mine >= 0 and engaged.rows[mine, COUNT] < max_edges:
            users[n], lists[n] = user, mine
            n += 1
    return lists[:n]


@njit(cache=True)
def _sample_all(
    t: TasteArrays, seeds: Int64Array, max_sample: int, max_edges: int, max_per_user: int, left_out: int
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return the samples of all seeds in a row, where each ends, and how many records each leads to at most."""
    engaged = t.engaged
    lists = engager_lists(t, seeds)
    users = np.empty(len(seeds) * max_sample, dtype=np.int64)
    ends = np.zeros(len(seeds) + 1, dtype=np.int64)
    n_records = np.zeros(len(seeds), dtype=np.int64)
    for i in range(len(seeds)):
        ends[i + 1] = ends[i]
        if lists[i] < 0:
            continue
        for row in sample_engagers(t, lists[i], max_sample, max_edges, left_out):
            users[ends[i + 1]] = row
            ends[i + 1] += 1
            n_records[i] += min(np.int64(engaged.rows[row, COUNT]), max_per_user)
    return users, ends, n_records


@njit(cache=True)
def sum_co_engaged(
    t: TasteArrays,
    seeds: Int64Array,
    prefactors: Float64Array,
    max_sample: int,
    max_edges: int,
    max_per_user: int,
    min_users: int,
    left_out: int,
) -> tuple[Int64Array, Float64Array, Int32Array, Int32Array]:
    """Return the posts that engagers of seeds engaged with.

    Returns
    -------
    tuple
        Posts; per post the sum over seeds of prefactor / sample x users in common; the seed with the largest part of
        it; and the users in common with that seed. Pairs with fewer than ``min_users`` in common do not count.
    """
    engaged = t.engaged
    users, ends, n_records = _sample_all(t, seeds, max_sample, max_edges, max_per_user, left_out)
    largest, bound = n_records.max() if len(seeds) > 0 else np.int64(0), n_records.sum()
    places = group_table(largest)
    slots = np.empty(largest, dtype=np.int64)
    ids = np.empty(largest, dtype=np.int64)
    counts = np.empty(largest, dtype=np.int32)
    last_user = np.empty(largest, dtype=np.int64)

    all_places = group_table(bound)
    all_ids = np.empty(bound, dtype=np.int64)
    sums = np.empty(bound, dtype=np.float64)
    best_part = np.empty(bound, dtype=np.float64)
    best_seed = np.empty(bound, dtype=np.int32)
    best_count = np.empty(bound, dtype=np.int32)
    n_all = 0
    for i in range(len(seeds)):
        sample = users[ends[i] : ends[i + 1]]
        n = 0
        for u in range(len(sample)):
            row = sample[u]
            count = np.int64(engaged.rows[row, COUNT])
            for k in range(count - 1, max(count - max_per_user, 0) - 1, -1):
                post = engaged.words[slab_slot(engaged, row, k), 0]
                if post == seeds[i]:
                    continue
                slot = group_slot(places, ids, post)
                if places[slot] == 0:
                    ids[n], counts[n], last_user[n], slots[n] = post, 0, -1, slot
                    n += 1
                    places[slot] = n
                place = places[slot] - 1
                if last_user[place] != u:
                    last_user[place] = u
                    counts[place] += 1
        for j in range(n):
            places[slots[j]] = 0  # the table serves the next seed
            if counts[j] < min_users:
                continue
            part = prefactors[i] / len(sample) * counts[j]
            slot = group_slot(all_places, all_ids, ids[j])
            if all_places[slot] == 0:
                all_ids[n_all], sums[n_all], best_part[n_all] = ids[j], 0.0, -1.0
                n_all += 1
                all_places[slot] = n_all
            place = all_places[slot] - 1
            sums[place] += part
            if part > best_part[place]:
                best_part[place], best_seed[place], best_count[place] = part, i, counts[j]
    return all_ids[:n_all], sums[:n_all], best_seed[:n_all], best_count[:n_all]


@njit(cache=True)
def post_degrees(
    t: TasteArrays,
    post_ids: Int64Array,
    counts: npt.NDArray[np.float32],
    half_life: int,
    is_indexed: npt.NDArray[np.bool_],
) -> Int64Array:
    """Return how often posts were engaged with: undecayed counts where they are kept, else records of the index."""
    lists = engager_lists(t, post_ids)
    out = np.zeros(len(post_ids), dtype=np.int64)
    for i in range(len(post_ids)):
        row = lists[i]
        if row < 0:
            continue
        total = np.float32(0.0)
        if half_life >= 0:
            for column in range(len(is_indexed)):
                if is_indexed[column]:
                    total += counts[row, half_life, column]
        out[i] = max(np.int64(total + np.float32(0.5)), np.int64(t.engagers.rows[row, COUNT]))
    return out
