"""What one operation changes in the engagement state: the compiled half of `millrace.stores.engagements`.

`fold_ops` runs over operations in log order. Before each it checks that every table and arena could take the largest
change an operation makes; if one could not, it stops and says where, the owner makes room, and it goes on. So an
operation is never half-done and arrays grow at points that the events alone decide.

The naive model that tests hold this against is `millrace.testing.engagement_model`.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.actions import Action
from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, table_find, table_get, table_put, table_remove
from millrace.base.kernels import njit
from millrace.stores.decayed_rows import (
    DecayedArrays,
    decayed_add,
    decayed_clear,
    decayed_move,
)
from millrace.stores.dwell import (
    IS_COMPLETE,
    IS_DWELL,
    IS_NOT_DWELLED,
    dwell_flags_kernel,
    strongest_action_kernel,
)
from millrace.stores.engagement_arrays import (
    AT_MS,
    CURSOR,
    FREE,
    IS_DELETED,
    KIND,
    N_TOPICS,
    OP_ANNOTATE,
    OP_CREATE,
    OP_ENGAGE,
    OP_ERASE,
    OP_IMPRESS,
    OP_OBSERVE,
    POST,
    TOP,
    TOPIC_BITS,
    TOPIC_MASK,
    USER,
    EngagementArrays,
    ObservedArrays,
    PostArrays,
    RowArrays,
    StatArrays,
    X,
    Y,
)
from millrace.stores.hot_posts import HeatArrays, heat_change, heat_remove
from millrace.stores.marks import MarkArrays, mark_key, mark_put, mark_slot, marks_have_room
from millrace.stores.rings import ring_find_pair, ring_push, rings_have_room
from millrace.stores.slab_lists import COUNT, Slab, slab_clear, slab_remove, slab_slot

_FLAGS_SHIFT: Final = 27
_DWELL_MASK: Final = (1 << _FLAGS_SHIFT) - 1
_NOT_DWELLED: Final = int(Action.NOT_DWELLED)
_DWELL: Final = int(Action.DWELL)
_DWELL_TIME: Final = int(Action.DWELL_TIME)
_COMPLETE: Final = int(Action.COMPLETE)

# What an event changes: at most an impression, its seconds and three flags, one of them lost.
_MAX_EFFECTS: Final = 8
_COLUMN: Final = 0
_MILLIS: Final = 1
_EFFECT_MS: Final = 2

# What it changes in the history.
_FORGOTTEN: Final = 0
_REMEMBERED: Final = 1
_DWELL_MS: Final = 2


@njit(cache=True)
def fold_ops(s: EngagementArrays, ops: Int64Array, start: int) -> int:  # noqa: C901 - see below
    """Apply operations from ``start`` on; return how far it came, ``len(ops)`` when done.

    It stops before an operation for which there is no room, and before an erasure, which is `erase_user`'s (rare, and a
    kernel of its own).

    Parameters
    ----------
    s
        The state.
    ops
        Shape (n, 6), int64: kind, post, user, time, and two numbers whose meaning is the kind's.
    start
        The first one to apply.

    Notes
    -----
    One long loop on purpose: Numba counts references to every array of an argument at every call, so passing the whole
    state to a function a few times per event costs more than the event. What an event changes is first decided from
    its mark alone, as a list of effects, and then done; functions get only the arrays they touch.
    """
    posts, stats, authors, users, marks = s.posts, s.stats, s.authors, s.users, s.marks
    post_counts, author_counts, topic_counts, heat = s.post_counts, s.author_counts, s.topic_counts, s.heat
    engagers, engaged, histories = s.engagers, s.engaged, s.histories
    max_engagers, max_engaged, max_history = s.settings.max_len
    log2_heat, is_indexed, heat_rate = s.settings.log2_heat, s.settings.is_indexed, s.settings.heat_rate_per_ms[0]
    impression = np.int64(len(log2_heat) - 1)
    effects = np.zeros((_MAX_EFFECTS, 3), dtype=np.int64)
    entry = np.zeros(3, dtype=np.int64)
    for i in range(start, len(ops)):
        kind, post_id, user_id, at_ms = ops[i, KIND], ops[i, POST], ops[i, USER], ops[i, AT_MS]
        if (
            kind == OP_ERASE
            or (kind == OP_ANNOTATE and _highest_topic(ops[i, X]) >= len(topic_counts.base_ms))
            or (posts.n_keys[0] + 1) * 2 > len(posts.keys)
            or (posts.n[FREE] == 0 and posts.n[TOP] == len(posts.post_id))
            or (stats.n[FREE] == 0 and stats.n[TOP] == len(stats.post_row))
            or (s.observed.n[FREE] == 0 and s.observed.n[TOP] == len(s.observed.chain))
            or (users.n_keys[0] + 1) * 2 > len(users.keys)
            or users.n_keys[0] == len(users.ids)
            or (authors.n_keys[0] + 1) * 2 > len(authors.keys)
            or authors.n_keys[0] == len(authors.ids)
            or not marks_have_room(marks, 1)
            or not rings_have_room(engagers, max_engagers)
            or not rings_have_room(engaged, max_engaged)
            or not rings_have_room(histories, max_history)
        ):
            return i
        row = table_get(posts.keys, posts.values, post_id)
        if row < 0:
            row = _take(posts.n, posts.stat)
            table_put(posts.keys, posts.values, post_id, row)
            posts.n_keys[0] += 1
            posts.post_id[row] = post_id
        posts.last_ms[row] = max(at_ms, posts.last_ms[row])
        if posts.flags[row] & IS_DELETED != 0:
            continue
        n_effects = 0
        if kind == OP_IMPRESS:
            key = mark_key(user_id, post_id, impression)
            n_effects = _decide_impression(
                marks, key, at_ms, ops[i, X], ops[i, Y], s.settings.dwell, impression, effects, entry
            )
        elif kind == OP_ENGAGE:
            key = mark_key(user_id, post_id, ops[i, X])
            n_effects = _decide_engagement(marks, key, at_ms, ops[i, X], ops[i, Y] != 0, effects, entry)
        elif kind == OP_CREATE:
            if posts.author_id[row] == 0:  # the first one to create a post is its author
                posts.author_id[row] = user_id
        elif kind == OP_ANNOTATE:
            for k in range(N_TOPICS):
                posts.topics[row, k] = (ops[i, X] >> (k * TOPIC_BITS)) & TOPIC_MASK
        elif kind == OP_OBSERVE:
            _observe(posts.observed, s.observed, row, ops[i, X], ops[i, Y])
        else:
            # What is known of the post goes; its row stays as a reminder until the retention is over.
            _free_statistics(s.posts, s.stats, s.observed, s.heat, s.post_counts, s.engagers, row)
            posts.flags[row] |= np.uint8(IS_DELETED)
            posts.topics[row] = 0
        if n_effects == 0:
            continue

        stat = np.int64(posts.stat[row]) - 1
        if stat < 0:
            stat = _take(stats.n, stats.post_row)
            stats.post_row[stat] = row
            posts.stat[row] = stat + 1
        author_id = posts.author_id[row]
        author = _row_of(authors, author_id) if author_id != 0 else np.int64(-1)
        for e in range(n_effects):
            column, amount, effect_ms = effects[e, _COLUMN], effects[e, _MILLIS] * 0.001, effects[e, _EFFECT_MS]
            decayed_add(post_counts, stat, column, amount, effect_ms)
            if author >= 0:
                decayed_add(author_counts, author, column, amount, effect_ms)
            for k in range(N_TOPICS):
                topic = np.int64(posts.topics[row, k])
                if topic > 0:
                    decayed_add(topic_counts, topic, column, amount, effect_ms)
            if log2_heat[column] > -np.inf:
                heat_change(heat, stat, log2_heat[column] + effect_ms * heat_rate, amount < 0.0)

        user = _row_of(users, user_id)
        forgotten, remembered = entry[_FORGOTTEN], entry[_REMEMBERED]
        if forgotten >= 0:
            _drop(histories, user, post_id, forgotten)
            if is_indexed[forgotten]:
                _drop(engagers, stat, user_id, forgotten)
                _drop(engaged, user, post_id, forgotten)
        if remembered >= 0:
            slot = _push(histories, max_history, user, post_id, entry[_DWELL_MS] << 8 | remembered)
            histories.words[slot, 1] = author_id
            histories.words[slot, 2] = at_ms
            if is_indexed[remembered]:
                _push(engagers, max_engagers, stat, user_id, at_ms << 8 | remembered)
                _push(engaged, max_engaged, user, post_id, at_ms << 8 | remembered)
    return len(ops)


@njit(cache=True)
def _decide_engagement(
    marks: MarkArrays,
    key: int,
    at_ms: int,
    action: int,
    is_undo: bool,  # noqa: FBT001 - a kernel
    effects: Int64Array,
    entry: Int64Array,
) -> int:
    """Mark an action or its undo; write what it changes to ``effects`` and ``entry``; return how many effects."""
    slot = mark_slot(marks, key)
    effects[0, _COLUMN], effects[0, _MILLIS], effects[0, _EFFECT_MS] = action, 1_000, at_ms
    entry[_FORGOTTEN], entry[_REMEMBERED], entry[_DWELL_MS] = -1, action, 0
    if slot < 0:
        mark_put(marks, -1 - slot, key, at_ms, 0 if is_undo else 1)
        return 0 if is_undo else 1
    marked_ms, holds = marks.times[slot], marks.values[slot] == 1
    if not is_undo:
        if holds or at_ms <= marked_ms:
            return 0
        marks.values[slot] = 1
        marks.times[slot] = at_ms
        return 1
    if not holds:
        marks.times[slot] = max(at_ms, marked_ms)
        return 0
    if at_ms < marked_ms:
        return 0
    marks.values[slot] = 0
    marks.times[slot] = at_ms
    effects[0, _MILLIS], effects[0, _EFFECT_MS] = -1_000, marked_ms
    entry[_FORGOTTEN], entry[_REMEMBERED] = action, -1
    return 1


@njit(cache=True)
def _decide_impression(
    marks: MarkArrays,
    key: int,
    at_ms: int,
    dwell_ms: int,
    duration_ms: int,
    thresholds: Int64Array,
    impression: int,
    effects: Int64Array,
    entry: Int64Array,
) -> int:
    """Mark an impression; write what it changes to ``effects`` and ``entry``; return how many effects."""
    slot = mark_slot(marks, key)
    is_first = slot < 0
    first_ms, old_ms, old_flags = at_ms, np.int64(0), np.int64(0)
    if not is_first:
        first_ms = marks.times[slot]
        old_ms = np.int64(marks.values[slot] & _DWELL_MASK)
        old_flags = np.int64(marks.values[slot] >> _FLAGS_SHIFT)
    longest_ms = max(old_ms, min(dwell_ms, thresholds[2]))
    flags = dwell_flags_kernel(longest_ms, dwell_ms, duration_ms, thresholds) | (old_flags & IS_COMPLETE)
    value = flags << _FLAGS_SHIFT | longest_ms
    n = 0
    if is_first:
        mark_put(marks, -1 - slot, key, at_ms, value)
        n = _add_effect(effects, n, impression, 1_000, at_ms)
    elif longest_ms == old_ms and flags == old_flags:
        return 0
    else:
        marks.values[slot] = value
    if longest_ms > old_ms:
        n = _add_effect(effects, n, _DWELL_TIME, longest_ms - old_ms, at_ms)
    gained, lost = flags & ~old_flags, old_flags & ~flags
    if gained & IS_NOT_DWELLED:
        n = _add_effect(effects, n, _NOT_DWELLED, 1_000, at_ms)
    if lost & IS_NOT_DWELLED:
        n = _add_effect(effects, n, _NOT_DWELLED, -1_000, first_ms)
    if gained & IS_DWELL:
        n = _add_effect(effects, n, _DWELL, 1_000, at_ms)
    if gained & IS_COMPLETE:
        n = _add_effect(effects, n, _COMPLETE, 1_000, at_ms)
    entry[_FORGOTTEN] = -1 if is_first else strongest_action_kernel(old_flags)
    entry[_REMEMBERED] = strongest_action_kernel(flags)
    entry[_DWELL_MS] = longest_ms
    return n


@njit(cache=True, inline="always")
def _add_effect(effects: Int64Array, n: int, column: int, millis: int, at_ms: int) -> int:
    effects[n, _COLUMN] = column
    effects[n, _MILLIS] = millis
    effects[n, _EFFECT_MS] = at_ms
    return n + 1


@njit(cache=True)
def _highest_topic(packed_topics: int) -> int:
    highest = np.int64(0)
    for k in range(N_TOPICS):
        highest = max(highest, (packed_topics >> (k * TOPIC_BITS)) & TOPIC_MASK)
    return highest


@njit(cache=True)
def _row_of(rows: RowArrays, key: int) -> int:
    """Return the row of an id, the next one for a new id."""
    row = table_get(rows.keys, rows.values, key)
    if row < 0:
        row = rows.n_keys[0]
        table_put(rows.keys, rows.values, key, row)
        rows.ids[row] = key
        rows.n_keys[0] += 1
    return row


@njit(cache=True)
def _take(n: Int64Array, chain: Int32Array) -> int:
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
def _give(n: Int64Array, chain: Int32Array, row: int) -> None:
    chain[row] = n[FREE]
    n[FREE] = row + 1


@njit(cache=True)
def _push(rings: Slab, max_len: int, row: int, first: int, last: int) -> int:
    """Write the first and last word of a new newest record; return its slot."""
    slot = ring_push(rings, row, max_len)
    rings.words[slot, 0] = first
    rings.words[slot, rings.words.shape[1] - 1] = last
    return slot


@njit(cache=True)
def _drop(rings: Slab, row: int, first: int, action: int) -> None:
    """Remove the newest record of a row with this first word and action, if it is still kept."""
    k = ring_find_pair(rings, row, first, action)
    if k >= 0:
        slab_remove(rings, row, k)


@njit(cache=True)
def _observe(places: Int32Array, observed: ObservedArrays, row: int, column: int, total: int) -> None:
    place = np.int64(places[row]) - 1
    if place < 0:
        place = _take(observed.n, observed.chain)
        places[row] = place + 1
    observed.totals[place, column] = total


@njit(cache=True)
def _free_statistics(
    posts: PostArrays,
    stats: StatArrays,
    observed: ObservedArrays,
    heat: HeatArrays,
    post_counts: DecayedArrays,
    engagers: Slab,
    row: int,
) -> None:
    stat = np.int64(posts.stat[row]) - 1
    if stat >= 0:
        heat_remove(heat, stat)
        decayed_clear(post_counts, stat)
        slab_clear(engagers, stat)
        _give(stats.n, stats.post_row, stat)
        posts.stat[row] = 0
    place = np.int64(posts.observed[row]) - 1
    if place >= 0:
        observed.totals[place] = 0.0
        _give(observed.n, observed.chain, place)
        posts.observed[row] = 0


@njit(cache=True)
def erase_user(s: EngagementArrays, user_id: int, at_ms: int) -> None:
    """Forget a user: as author, as engager, as viewer. Visits everything; erasures are rare."""
    for row in range(s.posts.n[TOP]):
        if s.posts.post_id[row] != 0 and s.posts.author_id[row] == user_id:
            _free_statistics(s.posts, s.stats, s.observed, s.heat, s.post_counts, s.engagers, row)
            s.posts.flags[row] |= np.uint8(IS_DELETED)
            s.posts.topics[row] = 0
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
            _free_statistics(s.posts, s.stats, s.observed, s.heat, s.post_counts, s.engagers, i)
            if table_remove(posts.keys, posts.values, posts.post_id[i]):
                posts.n_keys[0] -= 1
            posts.post_id[i] = 0
            posts.author_id[i] = 0
            posts.last_ms[i] = 0
            posts.topics[i] = 0
            posts.flags[i] = 0
            _give(posts.n, posts.stat, i)
    posts.n[CURSOR] = stop
