"""Visits: who comes when, and which posts they come across, before any feed of ours decides that.

The history's own "feed" is simple and stated: posts of people one follows, posts that many like, posts about
one's interests. All visits of a slice read the world at the slice's beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.simulator.config import DAY_MS, HOUR_MS
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose
from millrace.simulator.graph import Graph
from millrace.simulator.memory import Memory
from millrace.simulator.people import N_TOPICS, BoolArray, People, choose_by_row, hour_curve
from millrace.simulator.posts import REPLY, REPOST, PostTable

WINDOW_MS: Final = 36 * HOUR_MS
"""Older posts are no longer come across."""

_IN_NETWORK_FRAC: Final = 0.58
_POPULAR_FRAC: Final = 0.27
_NEWEST_PER_AUTHOR: Final = 10
_MEAN_LENGTH: Final = 20.0
_MAX_LENGTH: Final = 45
_FRESHNESS_MS: Final = 8 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Sessions:
    """Who comes and when, in order of viewer; columns of shape (n,)."""

    viewer: Int64Array
    started_ms: Int64Array


@dataclass(frozen=True, slots=True)
class Visits:
    """Posts that were shown in one slice, in order of session and position; columns of shape (n,).

    Attributes
    ----------
    session
        Numbers the sessions of the slice.
    started_ms
        When the session began.
    """

    viewer: Int64Array
    row: Int64Array
    session: Int64Array
    started_ms: Int64Array
    position: Int64Array


class Shelf:
    """The live posts at one moment, arranged for drawing: by author, by heat in a language, by language and topic."""

    def __init__(self, posts: PostTable, now_ms: int, n_users: int, n_languages: int) -> None:
        created = posts["created_ms"]
        rows = np.flatnonzero((created >= now_ms - WINDOW_MS) & (created < now_ms) & (posts["deleted_ms"] > now_ms))
        newest_first = rows[np.argsort(-created[rows], kind="stable")]
        author = posts["author"][newest_first]
        order = np.argsort(author, kind="stable")
        self._by_author = newest_first[order]
        self._author_starts = np.searchsorted(author[order], np.arange(n_users + 1))
        public = rows[(posts["kind"][rows] != REPLY) & (posts["kind"][rows] != REPOST)]
        language = posts["language"][public].astype(np.int64)
        heat = (posts["attraction"][public] * (1.0 + 1.5 * posts["n_likes"][public])).astype(np.float64)
        heat *= np.exp2(-(now_ms - created[public]) / _FRESHNESS_MS)
        self._popular = _Groups(public, language, heat, n_languages)
        topical = language * N_TOPICS + posts["topic"][public]
        self._topical = _Groups(public, topical, np.ones(len(public)), n_languages * N_TOPICS)

    def by_author(self, author: Int64Array, u: Float64Array) -> Int64Array:
        """Return one of each author's newest posts, leaning to the newest, shape (n,); -1 where there is none."""
        known = np.maximum(author, 0)
        first, last = self._author_starts[known], self._author_starts[known + 1]
        count = np.where(author >= 0, np.minimum(last - first, _NEWEST_PER_AUTHOR), 0)
        if not len(self._by_author):
            return np.full(len(author), -1, dtype=np.int64)
        at = first + (u**1.6 * count).astype(np.int64)
        return np.where(count > 0, self._by_author[np.minimum(at, len(self._by_author) - 1)], -1)

    def popular(self, language: Int64Array, u: Float64Array) -> Int64Array:
        """Return a post of each language drawn by heat, shape (n,)."""
        return self._popular.pick(language, u)

    def about(self, language: Int64Array, topic: Int64Array, u: Float64Array) -> Int64Array:
        """Return a post of each language and topic, shape (n,)."""
        return self._topical.pick(language * N_TOPICS + topic, u)


class _Groups:
    """Rows in groups, drawable by weight."""

    def __init__(self, rows: Int64Array, group: Int64Array, weight: Float64Array, n_groups: int) -> None:
        order = np.argsort(group, kind="stable")
        self._rows = rows[order]
        self._starts = np.searchsorted(group[order], np.arange(n_groups + 1))
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight[order])])

    def pick(self, group: Int64Array, u: Float64Array) -> Int64Array:
        first, last = self._starts[group], self._starts[group + 1]
        if not len(self._rows):
            return np.full(len(group), -1, dtype=np.int64)
        low, high = self._cumulative[first], self._cumulative[last]
        at = np.searchsorted(self._cumulative, low + u * (high - low), side="right") - 1
        at = np.clip(at, first, np.maximum(last - 1, first))
        return np.where(last > first, self._rows[np.minimum(at, len(self._rows) - 1)], -1)


def draw_visits(
    draws: Draws,
    people: People,
    graph: Graph,
    posts: PostTable,
    shelf: Shelf,
    memory: Memory,
    estranged: Int64Array,
    sessions: Sessions,
) -> Visits:
    """Return the pages that people came across in their sessions.

    Parameters
    ----------
    memory
        Whom one has met already is not come across again.
    estranged
        Shape (m,), ascending: ``viewer * n_users + author`` of pairs that do not see each other (blocked or muted).
    """
    session_user, started = sessions.viewer, sessions.started_ms
    length = _lengths(draws, session_user, started)
    session = np.repeat(np.arange(len(session_user)), length)
    viewer, began = session_user[session], started[session]
    place = np.arange(len(session)) - np.repeat(np.cumsum(length) - length, length)
    row = _candidates(draws, people, graph, shelf, viewer, began, place)
    # Whoever meets a repost meets the post behind it.
    safe = np.maximum(row, 0)
    if posts.n_posts:
        row = np.where((row >= 0) & (posts["kind"][safe] == REPOST), posts["parent"][safe], row)
        safe = np.maximum(row, 0)
        author = posts["author"][safe]
        keep = (row >= 0) & (author != viewer) & (posts["deleted_ms"][safe] > began)
        keep &= ~is_among(viewer * people.n_users + author, estranged)
        keep &= ~posts["is_sensitive"][safe] | people.shows_sensitive[viewer]
        keep &= (posts["kind"][safe] != REPLY) | (draws.uniform(Purpose.CANDIDATE_RANK, viewer, began, place, 1) < 0.45)
    else:
        keep = np.zeros(len(row), dtype=np.bool_)
    kept = np.flatnonzero(keep)
    kept = kept[is_first_meeting(memory, viewer[kept], row[kept])]
    viewer, row, session = viewer[kept], row[kept], session[kept]
    _, first, inverse = np.unique(session, return_index=True, return_inverse=True)
    position = np.arange(len(kept)) - first[inverse] if len(kept) else np.empty(0, dtype=np.int64)
    return Visits(viewer=viewer, row=row, session=session, started_ms=began[kept], position=position)


def is_first_meeting(memory: Memory, viewer: Int64Array, row: Int64Array) -> BoolArray:
    """Return which rows are the first meeting of a viewer and a post, shape (n,)."""
    _, first = np.unique((viewer << 32) | row, return_index=True)
    is_first = np.zeros(len(viewer), dtype=np.bool_)
    is_first[first] = True
    is_first &= memory.occasions(viewer, row) == 0
    return is_first


def is_among(values: Int64Array, ascending: Int64Array) -> BoolArray:
    """Return which values occur among others that are sorted, shape (n,)."""
    if not len(ascending):
        return np.zeros(len(values), dtype=np.bool_)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: BoolArray = ascending[at] == values
    return found


def draw_sessions(
    draws: Draws, people: People, readiness: Float64Array, away_until_ms: Int64Array, start_ms: int, stop_ms: int
) -> Sessions:
    """Return who comes in a slice and when; at most one session each.

    Parameters
    ----------
    readiness
        How much more often each comes than usual, shape (n_users,); 0 for who has not joined.
    away_until_ms
        Before this moment each stays away, shape (n_users,).
    """
    user = np.arange(people.n_users)
    local = np.full(people.n_users, (start_ms + stop_ms) // 2) + people.utc_offset_ms
    mean = people.sessions_per_day * hour_curve(local) * ((stop_ms - start_ms) / DAY_MS) * readiness
    comes = draws.uniform(Purpose.N_SESSIONS, user, start_ms) < -np.expm1(-mean)
    viewer = np.flatnonzero(comes & (away_until_ms <= start_ms))
    u = draws.uniform(Purpose.SESSION_TIME, viewer, start_ms)
    return Sessions(viewer=viewer, started_ms=start_ms + (u * (stop_ms - start_ms)).astype(np.int64))


def _lengths(draws: Draws, user: Int64Array, started: Int64Array) -> Int64Array:
    u = draws.uniform(Purpose.SESSION_LENGTH, user, started)
    return np.minimum(3 + (-np.log1p(-u) * _MEAN_LENGTH).astype(np.int64), _MAX_LENGTH)


def _candidates(
    draws: Draws,
    people: People,
    graph: Graph,
    shelf: Shelf,
    viewer: Int64Array,
    began: Int64Array,
    place: Int64Array,
) -> Int64Array:
    mode = draws.uniform(Purpose.CANDIDATE_MODE, viewer, began, place)
    pick = draws.uniform(Purpose.CANDIDATE_PICK, viewer, began, place, 0)
    rank = draws.uniform(Purpose.CANDIDATE_RANK, viewer, began, place, 0)
    second = people.second_language[viewer].astype(np.int64)
    in_second = (second >= 0) & (draws.uniform(Purpose.CANDIDATE_PICK, viewer, began, place, 1) < 0.2)
    language = np.where(in_second, second, people.language[viewer].astype(np.int64))
    topic = choose_by_row(people.interests[viewer], pick)
    followed = shelf.by_author(graph.pick_followee(viewer, pick), rank)
    popular = shelf.popular(language, rank)
    about = shelf.about(language, topic, rank)
    return np.where(
        mode < _IN_NETWORK_FRAC, followed, np.where(mode < _IN_NETWORK_FRAC + _POPULAR_FRAC, popular, about)
    )
