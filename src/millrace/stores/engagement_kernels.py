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
from millrace.base.int_table import Int32Array, table_get, table_put
from millrace.base.kernels import njit
from millrace.stores.credits import (
    MAX_CREDITS,
    N_TOPICS,
    TOPIC_BITS,
    TOPIC_MASK,
    change_credit,
    credit_by_number,
    credit_has_author,
    credit_of,
    credit_topic,
)
from millrace.stores.decayed_rows import decayed_add
from millrace.stores.engagement_arrays import (
    AT_MS,
    DWELL_SHIFT,
    FREE,
    IMPRESSION_MARK,
    IS_DELETED,
    KIND,
    OP_ANNOTATE,
    OP_CREATE,
    OP_ENGAGE,
    OP_ERASE,
    OP_IMPRESS,
    OP_OBSERVE,
    POST,
    SURFACE,
    SURFACE_SHIFT,
    TOP,
    USER,
    EngagementArrays,
    ObservedArrays,
    RowArrays,
    X,
    Y,
)
from millrace.stores.engagement_decisions import (
    COLUMN,
    CREDIT,
    DWELL_MS,
    EFFECT_MS,
    FORGOTTEN,
    MAX_EFFECTS,
    MILLIS,
    N_EFFECT_FIELDS,
    REMEMBERED,
    decide_engagement,
    decide_impression,
)
from millrace.stores.engagement_upkeep import free_statistics, take_row
from millrace.stores.hot_posts import heat_change
from millrace.stores.marks import mark_key, marks_have_room
from millrace.stores.rings import ring_find_pair, ring_push, rings_have_room
from millrace.stores.slab_lists import COUNT, Slab, slab_clear, slab_remove, slab_slot
from millrace.stores.window_kernels import (
    EFFECT_AT_MS,
    EFFECT_AUTHOR,
    EFFECT_COLUMN,
    EFFECT_MILLIS,
    EFFECT_POST,
    EFFECT_USER,
    FORGET_POST,
    IS_WITNESS,
)

_DWELL: Final = int(Action.DWELL)
_DWELL_TIME: Final = int(Action.DWELL_TIME)
_COMPLETE: Final = int(Action.COMPLETE)
_NOT_DWELLED: Final = int(Action.NOT_DWELLED)


@njit(cache=True, nogil=True)
def fold_ops(s: EngagementArrays, ops: Int64Array, start: int, told: Int64Array, n_told: Int64Array) -> int:  # noqa: C901 - see below
    """Apply operations from ``start`` on; return how far it came, ``len(ops)`` when done.

    It stops before an operation for which there is no room, and before an erasure, which is `erase_user`'s (rare, and a
    kernel of its own).

    Parameters
    ----------
    s
        The state.
    ops
        Shape (n, 7), int64: kind, post, user, time, two numbers whose meaning is the kind's, and the surface.
    start
        The first one to apply.
    told
        Shape (m, 7), int64: filled with the effects, as `millrace.stores.window_kernels` takes them, from ``n_told``
        on, room for `MAX_EFFECTS` an operation; of shape (0, 7) where nobody wants to know.
    n_told
        Shape (1,), int64: how many there are. Changed in place.

    Notes
    -----
    One long loop on purpose: Numba counts references to every array of an argument at every call, so passing the whole
    state to a function a few times per event costs more than the event. What an event changes is first decided from
    its mark alone, as a list of effects, and then done; functions get only the arrays they touch.
    """
    posts, stats, authors, users, marks = s.posts, s.stats, s.authors, s.users, s.marks
    post_counts, author_counts, topic_counts, heat = s.post_counts, s.author_counts, s.topic_counts, s.heat
    engagers, engaged, histories, credit_lists = s.engagers, s.engaged, s.histories, s.credits
    max_engagers, max_engaged, max_history = s.settings.max_len
    log2_heat, is_indexed, heat_rate = s.settings.log2_heat, s.settings.is_indexed, s.settings.heat_rate_per_ms[0]
    impression = np.int64(len(log2_heat) - 1)
    effects = np.zeros((MAX_EFFECTS, N_EFFECT_FIELDS), dtype=np.int64)
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
            or not rings_have_room(credit_lists, MAX_CREDITS)
        ):
            return i
        row = table_get(posts.keys, posts.values, post_id)
        if row < 0:
            row = take_row(posts.n, posts.stat)
            table_put(posts.keys, posts.values, post_id, row)
            posts.n_keys[0] += 1
            posts.post_id[row] = post_id
        posts.last_ms[row] = max(at_ms, posts.last_ms[row])
        if posts.flags[row] & IS_DELETED != 0:
            continue
        n_effects = 0
        number = np.int64(posts.credit[row])
        if kind == OP_IMPRESS:
            key = mark_key(user_id, post_id, IMPRESSION_MARK)
            n_effects = decide_impression(
                marks, key, at_ms, ops[i, X], ops[i, Y], s.settings.dwell, impression, number, effects, entry
            )
        elif kind == OP_ENGAGE:
            key = mark_key(user_id, post_id, ops[i, X])
            n_effects = decide_engagement(marks, key, at_ms, ops[i, X], ops[i, Y] != 0, number, effects, entry)
        elif kind in (OP_CREATE, OP_ANNOTATE):
            before = credit_of(posts.author_id, posts.topics, row)
            if kind == OP_ANNOTATE:
                for k in range(N_TOPICS):
                    posts.topics[row, k] = (ops[i, X] >> (k * TOPIC_BITS)) & TOPIC_MASK
            elif posts.author_id[row] == 0:  # the first one to create a post is its author
                posts.author_id[row] = user_id
            if posts.stat[row] != 0:
                after = credit_of(posts.author_id, posts.topics, row)
                change_credit(credit_lists, posts.credit, row, before, after)
        elif kind == OP_OBSERVE:
            _observe(posts.observed, s.observed, row, ops[i, X], ops[i, Y])
        else:
            # What is known of the post goes; its row stays as a reminder until the retention is over.
            free_statistics(s.posts, s.stats, s.observed, s.heat, s.post_counts, s.engagers, row)
            slab_clear(credit_lists, row)
            posts.flags[row] |= np.uint8(IS_DELETED)
            posts.topics[row] = 0
            posts.credit[row] = 0
            if len(told) > 0:
                told[n_told[0], EFFECT_POST], told[n_told[0], EFFECT_COLUMN] = post_id, FORGET_POST
                n_told[0] += 1
        if n_effects == 0:
            continue

        stat = np.int64(posts.stat[row]) - 1
        if stat < 0:
            stat = take_row(stats.n, stats.post_row)
            stats.post_row[stat] = row
            posts.stat[row] = stat + 1
        author_id = posts.author_id[row]
        author = _row_of(authors, author_id) if author_id != 0 else np.int64(-1)
        for e in range(n_effects):
            column, amount, effect_ms = effects[e, COLUMN], effects[e, MILLIS] * 0.001, effects[e, EFFECT_MS]
            decayed_add(post_counts, stat, column, amount, effect_ms)
            # What is taken back goes from where it was counted: to another credit than now's, but rarely.
            is_now = effects[e, CREDIT] == number
            credit = np.int64(0)
            if not is_now:
                now = credit_of(posts.author_id, posts.topics, row)
                credit = credit_by_number(credit_lists, row, effects[e, CREDIT], now)
            is_authors = author >= 0 and (is_now or credit_has_author(credit))
            if is_authors:
                decayed_add(author_counts, author, column, amount, effect_ms)
            if len(told) > 0:
                at = n_told[0]
                told[at, EFFECT_POST], told[at, EFFECT_AUTHOR] = post_id, author_id if is_authors else 0
                told[at, EFFECT_USER], told[at, EFFECT_COLUMN] = user_id, column if column != impression else -1
                told[at, EFFECT_MILLIS], told[at, EFFECT_AT_MS] = effects[e, MILLIS], effect_ms
                told[at, IS_WITNESS] = e == 0
                n_told[0] = at + 1
            for k in range(N_TOPICS):
                topic = np.int64(posts.topics[row, k]) if is_now else credit_topic(credit, k)
                if topic > 0:
                    decayed_add(topic_counts, topic, column, amount, effect_ms)
            if log2_heat[column] > -np.inf:
                heat_change(heat, stat, log2_heat[column] + effect_ms * heat_rate, amount < 0.0)

        user = _row_of(users, user_id)
        forgotten, remembered = entry[FORGOTTEN], entry[REMEMBERED]
        if forgotten >= 0:
            _drop(histories, user, post_id, forgotten)
            if is_indexed[forgotten]:
                _drop(engagers, stat, user_id, forgotten)
                _drop(engaged, user, post_id, forgotten)
        if remembered >= 0:
            _make_way(histories, max_history, user)
            what = ops[i, SURFACE] << SURFACE_SHIFT | entry[DWELL_MS] << DWELL_SHIFT | remembered
            slot = _push(histories, max_history, user, post_id, what)
            histories.words[slot, 1] = author_id
            histories.words[slot, 2] = at_ms
            if is_indexed[remembered]:
                _push(engagers, max_engagers, stat, user_id, at_ms << 8 | remembered)
                _push(engaged, max_engaged, user, post_id, at_ms << 8 | remembered)
    return len(ops)


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
def _push(rings: Slab, max_len: int, row: int, first: int, last: int) -> int:
    """Write the first and last word of a new newest record; return its slot."""
    slot = ring_push(rings, row, max_len)
    rings.words[slot, 0] = first
    rings.words[slot, rings.words.shape[1] - 1] = last
    return slot


@njit(cache=True)
def _make_way(histories: Slab, max_len: int, row: int) -> None:
    """Where a history is full, drop the oldest dwelled-on post of its older half, if there is one.

    A page scrolled by leaves an entry per post, a like is rare: without this a day of scrolling would push out
    everything that a user ever did. Deliberate actions keep half of the room to themselves, and the newest of
    whatever kind keep the other half.
    """
    if histories.rows[row, COUNT] < max_len:
        return
    last = histories.words.shape[1] - 1
    for k in range(max_len // 2):
        action = histories.words[slab_slot(histories, row, k), last] & 0xFF
        if action in (_DWELL, _DWELL_TIME, _COMPLETE, _NOT_DWELLED):
            slab_remove(histories, row, k)
            return


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
        place = take_row(observed.n, observed.chain)
        places[row] = place + 1
    observed.totals[place, column] = total
