"""How the engagement state takes and gives rows, and how it forgets: deletions, erasures, retention.

The compiled, rarely called half of `millrace.stores.engagement_kernels`.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, table_find, table_get, table_remove
from millrace.base.kernels import njit
from millrace.stores.decayed_rows import DecayedArrays, decayed_clear, decayed_move
from millrace.stores.engagement_arrays import (
    CURSOR,
    FREE,
    IS_DELETED,
    TOP,
    EngagementArrays,
    ObservedArrays,
    PostArrays,
    RowArrays,
    StatArrays,
)
from millrace.stores.hot_posts import HeatArrays, heat_remove
from millrace.stores.slab_lists import COUNT, Slab, slab_clear, slab_remove, slab_slot


@njit(cache=True)
def take_row(n: Int64Array, chain: Int32Array) -> int:
    """Return a free row: the last one freed, or the next never used."""
    if n[FREE] > 0:
        row = n[FREE] - 1
        n[FREE] = chain[row]
        chain[row] = 0
    else:
        row = n[TOP]
        n[TOP] += 1
    return row


@njit(cache=True)
def give_row(n: Int64Array, chain: Int32Array, row: int) -> None:
    """Put a row into the chain of free ones."""
    chain[row] = n[FREE]
    n[FREE] = row + 1


@njit(cache=True)
def free_statistics(
    posts: PostArrays,
    stats: StatArrays,
    observed: ObservedArrays,
    heat: HeatArrays,
    post_counts: DecayedArrays,
    engagers: Slab,
    row: int,
) -> None:
    """Forget what was done to a post: its counters, heat, engagers and observed totals."""
    stat = np.int64(posts.stat[row]) - 1
    if stat >= 0:
        heat_remove(heat, stat)
        decayed_clear(post_counts, stat)
        slab_clear(engagers, stat)
        give_row(stats.n, stats.post_row, stat)
        posts.stat[row] = 0
    place = np.int64(posts.observed[row]) - 1
    if place >= 0:
        observed.totals[place] = 0.0
        give_row(observed.n, observed.chain, place)
        posts.observed[row] = 0


@njit(cache=True)
def erase_user(s: EngagementArrays, user_id: int, at_ms: int) -> None:
    """Forget a user: as author, as engager, as viewer. Visits everything; erasures are rare."""
    for row in range(s.posts.n[TOP]):
        if s.posts.post_id[row] != 0 and s.posts.author_id[row] == user_id:
            free_statistics(s.posts, s.stats, s.observed, s.heat, s.post_counts, s.engagers, row)
            slab_clear(s.credits, row)
            s.posts.flags[row] |= np.uint8(IS_DELETED)
            s.posts.topics[row] = 0
            s.posts.credit[row] = 0
            s.posts.author_id[row] = 0
            s.posts.last_ms[row] = max(s.posts.last_ms[row], at_ms)
    for stat in range(s.stats.n[TOP]):
        for k in range(s.engagers.rows[stat, COUNT] - 1, -1, -1):
            if s.engagers.words[slab_slot(s.engagers, stat, k), 0] == user_id:
                slab_remove(s.engagers, stat, k)
    for user in range(s.users.n_keys[0]):
        for k in range(s.histories.rows[user, COUNT]):
            record = s.histories.words[slab_slot(s.histories, user, k)]
            if record[1] == user_id:
                record[1] = 0
    user, last = _drop_row(s.users, user_id)
    if user >= 0:
        slab_clear(s.histories, user)
        slab_clear(s.engaged, user)
        _move_ring(s.histories, last, user)
        _move_ring(s.engaged, last, user)
    author, last = _drop_row(s.authors, user_id)
    if author >= 0:
        decayed_move(s.author_counts, last, author)


@njit(cache=True)
def _move_ring(slab: Slab, source: int, target: int) -> None:
    """Give the list of one row to another, empty one."""
    if source == target:
        return
    for field in range(slab.rows.shape[1]):
        slab.rows[target, field] = slab.rows[source, field]
        slab.rows[source, field] = 0


@njit(cache=True)
def _drop_row(rows: RowArrays, key: int) -> tuple[int, int]:
    """Remove an id; return its row and the last row, which now belongs in its place (-1, -1 if it is not there)."""
    row = table_get(rows.keys, rows.values, key)
    if row < 0:
        return np.int64(-1), np.int64(-1)
    table_remove(rows.keys, rows.values, key)
    rows.n_keys[0] -= 1
    last = rows.n_keys[0]
    if row != last:
        rows.ids[row] = rows.ids[last]
        rows.values[table_find(rows.keys, rows.ids[last])] = row
    rows.ids[last] = 0
    return row, last


@njit(cache=True)
def expire_posts(s: EngagementArrays, before_ms: int, n_rows: int) -> None:
    """Free the posts among the next ``n_rows`` rows that nothing happened to since ``before_ms``."""
    posts = s.posts
    row = posts.n[CURSOR] if posts.n[CURSOR] < posts.n[TOP] else 0
    stop = min(row + n_rows, posts.n[TOP])
    for i in range(row, stop):
        if posts.post_id[i] != 0 and posts.last_ms[i] < before_ms:
            free_statistics(s.posts, s.stats, s.observed, s.heat, s.post_counts, s.engagers, i)
            slab_clear(s.credits, i)
            if table_remove(posts.keys, posts.values, posts.post_id[i]):
                posts.n_keys[0] -= 1
            posts.post_id[i] = 0
            posts.author_id[i] = 0
            posts.last_ms[i] = 0
            posts.topics[i] = 0
            posts.flags[i] = 0
            posts.credit[i] = 0
            give_row(posts.n, posts.stat, i)
    posts.n[CURSOR] = stop
