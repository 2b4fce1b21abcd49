"""Rows of features in one pass: facts, counters and rates of many posts, straight from the stores' arrays.

What each number is, `millrace.features.store.post_reference` says by the stores' own methods; tests hold these kernels
against it, bit for bit. Each kernel makes one pass per kind of random access: the processor then waits for many rows
at a time.
"""

# Kernels: Numba knows one kind of 64-bit integer where NumPy's types know two.
# mypy: disable-error-code="arg-type, return-value, assignment, no-any-return, operator"

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.int_table import Int32Array, table_get
from millrace.base.kernels import njit
from millrace.base.prefetch import prefetch, prefetch_slots
from millrace.content.text_kernels import HAS_AUDIO, HAS_IMAGE, HAS_LINK, TextArrays
from millrace.stores.decayed_rows import DecayedArrays, Float32Array
from millrace.stores.follow_graph import FollowArrays
from millrace.stores.post_kernels import (
    AUTHOR,
    DURATION,
    FLAGS,
    HAS_VIDEO,
    IS_SENSITIVE,
    KIND_BITS,
    LANGUAGE,
    PARENT,
    QUOTE,
    REPLY,
    REPOST,
    TOPICS,
    PostArrays,
)
from millrace.stores.profiles import IS_VERIFIED, ProfileArrays
from millrace.stores.slab_lists import COUNT
from millrace.stores.window_kernels import SumArrays

_HOUR_MS: Final = 3_600_000.0
_DAY_MS: Final = 86_400_000.0
_LINE_BYTES: Final = 64
_AHEAD: Final = 6
"""Rows of windows that are fetched ahead: a row is nine lines, and a core waits for some dozens at a time."""
_BLOCK: Final = 128
"""Posts whose rows are filled before the next ones are begun: so many rows stay in the processor's cache."""

N_ID_COLUMNS: Final = 4
AUTHOR_ID: Final = 0
CONTENT_ID: Final = 1
CREATED_MS: Final = 2
POST_ROW: Final = 3


class FactSources(NamedTuple):
    """The arrays that say what a post is."""

    posts: PostArrays
    texts: TextArrays
    follows: FollowArrays
    profiles: ProfileArrays


class CountSources(NamedTuple):
    """The arrays that say what was done to posts and to their authors' posts.

    Attributes
    ----------
    post_sums, author_sums
        Of windows; not looked at where there are none.
    keys, values, stat
        The table of posts, and each row's place in the counters plus 1.
    author_keys, author_values
        The table of authors.
    post_counts, author_counts
        Decayed counters.
    """

    post_sums: SumArrays
    author_sums: SumArrays
    keys: Int64Array
    values: Int32Array
    stat: Int32Array
    author_keys: Int64Array
    author_values: Int32Array
    post_counts: DecayedArrays
    author_counts: DecayedArrays


class Places(NamedTuple):
    """Where features lie in a row.

    Attributes
    ----------
    scalars
        The first column of `post_features.SCALARS`.
    width
        Columns of all windows of one kind; 0 where there are none.
    n_columns
        Actions and impressions.
    rates
        Shape (n_rates, 2), int64: the first columns of rates, and of the counts that they are of.
    rated
        Shape (n_rated,), int64: columns of the counts.
    """

    scalars: int
    width: int
    n_columns: int
    rates: Int64Array
    rated: Int64Array


@njit(cache=True, nogil=True)
def write_posts(
    out: Float32Array,
    places: Places,
    facts: FactSources,
    counts: CountSources,
    post_ids: Int64Array,
    now_ms: int,
    prior: float,
    ids: Int64Array,
    codes: Int32Array,
) -> None:
    """Write all float32 features of posts; ``ids`` and ``codes`` as `write_facts` fills them."""
    rows = np.empty(_BLOCK, dtype=np.int32)
    post_width = counts.post_counts.values.shape[1] * places.n_columns
    for start in range(0, len(post_ids), _BLOCK):
        stop = min(start + _BLOCK, len(post_ids))
        n = stop - start
        block = out[start:stop]
        write_facts(block, places.scalars, facts, post_ids[start:stop], now_ms, ids[start:stop], codes[start:stop])
        posts, authors = ids[start:stop, CONTENT_ID], ids[start:stop, AUTHOR_ID]
        at = 0
        if places.width > 0:
            write_windows(block, at, counts.post_sums, posts)
        at += places.width
        prefetch_slots(counts.keys, counts.values, posts)
        prefetch_slots(counts.author_keys, counts.author_values, authors)
        for i in range(n):
            rows[i] = table_get(counts.keys, counts.values, posts[i])
            if rows[i] >= 0:
                prefetch(counts.stat, rows[i])
        for i in range(n):
            rows[i] = counts.stat[rows[i]] - 1 if rows[i] >= 0 else -1
        write_decayed(block, at, counts.post_counts, rows[:n], now_ms)
        at += post_width
        if places.width > 0:
            write_windows(block, at, counts.author_sums, authors)
        at += places.width
        for i in range(n):
            rows[i] = table_get(counts.author_keys, counts.author_values, authors[i])
        write_decayed(block, at, counts.author_counts, rows[:n], now_ms)
        for k in range(len(places.rates)):
            write_rates(block, places.rates[k, 0], places.rates[k, 1], places.n_columns, places.rated, prior)


@njit(cache=True, nogil=True)
def write_facts(  # noqa: C901 - one pass over all columns on purpose
    out: Float32Array,
    at: int,
    sources: FactSources,
    post_ids: Int64Array,
    now_ms: int,
    ids: Int64Array,
    codes: Int32Array,
) -> None:
    """Write what posts are into the columns from ``at`` on, in the order of `post_features.SCALARS`.

    Parameters
    ----------
    out
        Shape (n, n_dense), float32.
    at
        The first column.
    sources
        The stores.
    post_ids
        Shape (n,), int64.
    now_ms
        The moment as of which ages are told.
    ids
        Shape (n, 4), int64: filled with author, content, time of creation, and the post's row, -1 where it is not live.
    codes
        Shape (n, 1 + MAX_TOPICS), int32: filled with language and topics.
    """
    posts, texts, profiles = sources.posts, sources.texts, sources.profiles
    keys, values, post_facts, all_ids = posts.posts.keys, posts.posts.values, posts.facts, posts.ids
    deleted_keys, deleted_values = posts.deleted.keys, posts.deleted.values
    n = len(post_ids)
    rows = np.empty(n, dtype=np.int64)
    prefetch_slots(keys, values, post_ids)
    prefetch_slots(deleted_keys, deleted_values, post_ids)
    prefetch_slots(texts.keys, texts.values, post_ids)  # of all but reposts
    for i in range(n):
        row = table_get(keys, values, post_ids[i])
        rows[i] = row
        if row >= 0:
            prefetch(post_facts, row * post_facts.shape[1])
            prefetch(all_ids, row * all_ids.shape[1])
            prefetch(posts.created_ms, row)
    for i in range(n):
        row, post_id = rows[i], post_ids[i]
        ids[i, POST_ROW] = row
        out[i, at + 11] = table_get(deleted_keys, deleted_values, post_id) >= 0
        if row < 0:
            ids[i, AUTHOR_ID], ids[i, CONTENT_ID], ids[i, CREATED_MS] = 0, post_id, 0
            codes[i] = 0
            for k in (0, 1, 2, 3, 4, 5, 9, 10, 12):
                out[i, at + k] = 0.0
            continue
        flags, created_ms = post_facts[row, FLAGS], posts.created_ms[row]
        kind = flags & KIND_BITS
        content_id, content_ms = post_id, created_ms
        if kind == REPOST:
            content_id = all_ids[row, PARENT]
            parent = table_get(keys, values, content_id)
            content_ms = posts.created_ms[parent] if parent >= 0 else np.int64(0)
        ids[i, AUTHOR_ID], ids[i, CONTENT_ID], ids[i, CREATED_MS] = all_ids[row, AUTHOR], content_id, created_ms
        out[i, at] = max(now_ms - content_ms, 0) / _HOUR_MS if content_ms > 0 else 0.0
        out[i, at + 1] = max(now_ms - created_ms, 0) / _HOUR_MS
        out[i, at + 2] = kind == REPLY
        out[i, at + 3] = kind == REPOST
        out[i, at + 4] = kind == QUOTE
        out[i, at + 5] = flags & HAS_VIDEO != 0
        out[i, at + 9] = post_facts[row, DURATION] / 1_000.0
        out[i, at + 10] = flags & IS_SENSITIVE != 0
        n_topics = 0
        codes[i, 0] = post_facts[row, LANGUAGE]
        for k in range(codes.shape[1] - 1):
            topic = post_facts[row, TOPICS + k]
            codes[i, 1 + k] = topic
            n_topics += topic > 0
        out[i, at + 12] = n_topics
    tokens, traits = texts.tokens, texts.traits
    users, followers, following = sources.follows.users, sources.follows.followers.rows, sources.follows.following.rows
    prefetch_slots(users.keys, users.values, ids[:, AUTHOR_ID])
    prefetch_slots(profiles.keys, profiles.values, ids[:, AUTHOR_ID])
    for i in range(n):
        row = table_get(texts.keys, texts.values, ids[i, CONTENT_ID])
        rows[i] = row
        if row >= 0:
            prefetch(traits, row)
            for k in range(0, tokens.shape[1], _LINE_BYTES // tokens.itemsize):
                prefetch(tokens, row * tokens.shape[1] + k)
    for i in range(n):
        row = rows[i]
        n_tokens = np.int32(0)
        trait = np.int64(0)
        if row >= 0:
            trait = np.int64(traits[row])
            for k in range(tokens.shape[1]):
                n_tokens += np.int32(tokens[row, k] != 0)
        out[i, at + 6] = trait & HAS_IMAGE != 0
        out[i, at + 7] = trait & HAS_AUDIO != 0
        out[i, at + 8] = trait & HAS_LINK != 0
        out[i, at + 13] = n_tokens
    for i in range(n):
        rows[i] = table_get(users.keys, users.values, ids[i, AUTHOR_ID])
    for i in range(n):
        out[i, at + 14] = followers[rows[i], COUNT] if rows[i] >= 0 else 0
        out[i, at + 15] = following[rows[i], COUNT] if rows[i] >= 0 else 0
    for i in range(n):
        rows[i] = table_get(profiles.keys, profiles.values, ids[i, AUTHOR_ID])
    for i in range(n):
        since_ms = profiles.created_ms[rows[i]] if rows[i] >= 0 else np.int64(0)
        out[i, at + 16] = max(now_ms - since_ms, 0) / _DAY_MS if since_ms > 0 else 0.0
        out[i, at + 17] = rows[i] >= 0 and profiles.flags[rows[i]] & IS_VERIFIED != 0


@njit(cache=True, nogil=True)
def write_windows(out: Float32Array, at: int, of: SumArrays, ids: Int64Array) -> None:
    """Write window sums of ids into columns from ``at`` on, as `Windows.read` gives them."""
    sums = of.sums
    n_columns, n_windows = sums.shape[1], sums.shape[2]
    width = n_columns * n_windows
    rows = np.empty(len(ids), dtype=np.int64)
    prefetch_slots(of.keys, of.values, ids)
    for i in range(len(ids)):
        rows[i] = table_get(of.keys, of.values, ids[i])
    for i in range(min(_AHEAD, len(ids))):
        if rows[i] >= 0:
            for k in range(0, width, _LINE_BYTES // sums.itemsize):
                prefetch(sums, rows[i] * width + k)
    zero, thousandth = np.float32(0.0), 0.001
    for i in range(len(ids)):
        row, ahead = rows[i], rows[i + _AHEAD] if i + _AHEAD < len(ids) else -1
        if ahead >= 0:
            for k in range(0, width, _LINE_BYTES // sums.itemsize):
                prefetch(sums, ahead * width + k)
        if row < 0:
            out[i, at : at + width] = 0.0
            continue
        for w in range(n_windows):
            start = at + w * n_columns
            for c in range(n_columns):
                value = np.float32(sums[row, c, w] * thousandth)
                out[i, start + c] = value if value > zero else zero  # noqa: FURB136 - twice as fast so


@njit(cache=True, nogil=True)
def write_decayed(out: Float32Array, at: int, rows: DecayedArrays, wanted: Int32Array, now_ms: int) -> None:
    """Write decayed counters of rows (-1: zeros) into columns from ``at`` on, as `DecayedRows.read` gives them."""
    values, base_ms, rates = rows.values, rows.base_ms, rows.rate_per_ms
    n_half_lives, n_columns = values.shape[1], values.shape[2]
    width = n_half_lives * n_columns
    for i in range(len(wanted)):
        row = wanted[i]
        if row >= 0:
            prefetch(base_ms, row)
            for k in range(0, width, _LINE_BYTES // values.itemsize):
                prefetch(values, row * width + k)
    for i in range(len(wanted)):
        row = wanted[i]
        if row < 0:
            out[i, at : at + width] = 0.0
            continue
        elapsed_ms = now_ms - base_ms[row]
        for h in range(n_half_lives):
            factor = np.float32(2.0 ** (-elapsed_ms * rates[h])) if rates[h] > 0.0 else np.float32(1.0)
            start = at + h * n_columns
            for c in range(n_columns):
                out[i, start + c] = values[row, h, c] * factor


@njit(cache=True, nogil=True)
def write_rates(out: Float32Array, at: int, counts_at: int, n_columns: int, rated: Int64Array, prior: float) -> None:
    """Write the rates of some columns of counts that are in the rows already; the last of those are impressions."""
    for i in range(len(out)):
        per = np.float32(1.0) / (out[i, counts_at + n_columns - 1] + np.float32(prior))
        for k in range(len(rated)):
            out[i, at + k] = out[i, counts_at + rated[k]] * per
