"""`World`: the loop that lets people join, follow, write, visit and respond, slice by slice, and tells it as events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.base.actions import Action
from millrace.events.envelope import AnyEvent
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws, Int64Array, Purpose
from millrace.simulator.graph import make_graph
from millrace.simulator.mechanism import COLUMN, GateMechanism, Mechanism, Situation, draw_actions, draw_dwell_ms
from millrace.simulator.narrator import Narrator, Told, telling_tag
from millrace.simulator.people import N_TOPICS, BoolArray, make_people
from millrace.simulator.posts import QUOTE, REPLY, REPOST, Columns, PostTable, draw_originals
from millrace.simulator.visits import Seen, Shelf, Visits, draw_visits
from millrace.simulator.vocabulary import Vocabulary

_RESPONSE_KINDS: Final = {Action.REPLY: REPLY, Action.REPOST: REPOST, Action.QUOTE: QUOTE}
_SEARCH_FRAC: Final = 0.03
_KEYWORD_MUTE_FRAC: Final = 0.02
_MAX_RESPONSE_DELAY_MS: Final = 8 * 60_000


@dataclass(frozen=True, slots=True)
class _Edges:
    """Follows with the times at which they are told, ascending."""

    times_ms: Int64Array
    followers: Int64Array
    followees: Int64Array

    def between(self, start_ms: int, stop_ms: int) -> tuple[Int64Array, Int64Array, Int64Array]:
        part = slice(*np.searchsorted(self.times_ms, [start_ms, stop_ms]).tolist())
        return self.followers[part], self.followees[part], self.times_ms[part]


class World:
    """A world and its hidden truth: people, graph, posts, mechanism.

    Parameters
    ----------
    config
        Its shape.
    now_ms
        The moment at which its history ends.
    mechanism
        The law of behaviour.
    """

    def __init__(self, config: WorldConfig, now_ms: int, mechanism: Mechanism | None = None) -> None:
        self.config = config
        self.now_ms = now_ms
        self.draws = Draws(config.seed)
        self.vocabulary = Vocabulary(tuple(config.language_shares))
        self.people = make_people(config, self.draws)
        self.graph = make_graph(config, self.draws, self.people)
        self.posts = PostTable()
        self.mechanism = mechanism or GateMechanism()
        self._size = config.shape()
        n_slices = -(-(config.history_ms + config.founding_ms) // self._size.slice_ms)
        self._begin_ms = now_ms - n_slices * self._size.slice_ms
        self._history_ms = now_ms - config.history_ms
        self._n_written = np.zeros(self.people.n_users, dtype=np.int64)
        self._seen = Seen()
        self._estranged = np.empty(0, dtype=np.int64)
        self._queued: Columns | None = None
        tag = telling_tag(config.seed, now_ms)
        self._narrator = Narrator(tag, self.draws, self.people, self.posts, self.vocabulary)
        self._joined_ms = self._draw_joined()
        self._follows, self._unfollows = self._draw_edges()

    def history(self) -> Iterator[AnyEvent]:
        """Yield everything that happens, ordered by time, ending just before ``now_ms``. To be called once."""
        held: list[Told] = []
        for start_ms in range(self._begin_ms, self.now_ms, self._size.slice_ms):
            stop_ms = start_ms + self._size.slice_ms
            held.extend(self._slice(start_ms, stop_ms))
            held.sort(key=_time_of)  # stable: what is told first comes first among equal times
            n_ready = _first_at(held, min(stop_ms, self.now_ms))
            yield from self._narrator.stamp(held[:n_ready])
            held = held[n_ready:]

    def situation(self, viewer: Int64Array, row: Int64Array, is_followed: BoolArray) -> Situation:
        """Return what drives these viewers before these posts, shape (n,) each."""
        people, posts = self.people, self.posts
        interests = people.interests[viewer]
        interest = interests[np.arange(len(viewer)), posts["topic"][row]] / interests.max(axis=1)
        language = posts["language"][row]
        reads = (language == people.language[viewer]) | (language == people.second_language[viewer])
        return Situation(
            interest=interest,
            quality=posts["quality"][row].astype(np.float64),
            is_followed=is_followed,
            reads_language=reads,
            propensity=people.propensity[viewer],
            kind=posts["kind"][row],
            media=posts["media"][row],
            duration_ms=posts["duration_ms"][row],
            has_link=posts["has_link"][row],
            is_spam=posts["is_spam"][row],
        )

    def _slice(self, start_ms: int, stop_ms: int) -> Iterator[Told]:
        narrator = self._narrator
        joins = np.flatnonzero((self._joined_ms >= start_ms) & (self._joined_ms < stop_ms))
        yield from narrator.profiles(joins, self._joined_ms[joins])
        yield from self._told_keyword_mutes(joins)
        yield from narrator.follows(*self._follows.between(start_ms, stop_ms), is_following=True)
        yield from narrator.follows(*self._unfollows.between(start_ms, stop_ms), is_following=False)
        spammers = joins[self.people.is_spammer[joins]]
        yield from narrator.account_labels(spammers, np.full(len(spammers), self._history_ms + 4 * HOUR_MS))
        if stop_ms <= self._history_ms:
            return
        yield from self._told_originals(start_ms, stop_ms)
        shelf = Shelf(self.posts, start_ms, self.people.n_users, len(self.vocabulary.languages))
        visits = draw_visits(
            self.draws,
            self.people,
            self.graph,
            self.posts,
            shelf,
            self._seen,
            self._estranged,
            (start_ms, stop_ms),
        )
        yield from self._told_visits(visits)
        yield from self._told_responses(stop_ms)

    def _told_originals(self, start_ms: int, stop_ms: int) -> Iterator[Told]:
        originals = draw_originals(self.config, self.draws, self.people, self._n_written, start_ms, stop_ms)
        rows = self.posts.append(originals)
        yield from self._narrator.posts(rows)
        yield from self._narrator.fates(rows)

    def _told_responses(self, stop_ms: int) -> Iterator[Told]:
        """Replies, reposts and quotes that are written before the slice ends; the others wait."""
        if self._queued is None:
            return
        is_due = self._queued["created_ms"] < stop_ms
        due = {name: values[is_due] for name, values in self._queued.items()}
        self._queued = {name: values[~is_due] for name, values in self._queued.items()}
        rows = self.posts.append(due)
        yield from self._narrator.posts(rows)
        yield from self._narrator.responses(rows)

    def _told_visits(self, visits: Visits) -> Iterator[Told]:
        """Impressions and what came of them."""
        viewer, row = visits.viewer, visits.row
        if not len(viewer):
            return
        key = self.posts["key"][row]
        situation = self.situation(viewer, row, visits.is_followed)
        liking = self.mechanism.liking(situation)
        probs = self.mechanism.probabilities(situation, liking)
        did = draw_actions(self.draws, viewer, key, np.zeros(len(viewer), dtype=np.int64), probs)
        dwell_ms = draw_dwell_ms(self.draws, situation, viewer, key, liking, did)
        left_ms = visits.started_ms + _running_sum(dwell_ms, visits.session)
        yield from self._narrator.impressions(viewer, row, left_ms, dwell_ms, visits.position)
        for action, kind in _RESPONSE_KINDS.items():
            column = COLUMN[action]
            who = np.flatnonzero(did[:, column])
            did[who, column] = False  # told when the response is written
            self._queue(action, kind, viewer[who], row[who], left_ms[who])
        who, column_of = np.nonzero(did)
        early = draws_before_leaving(self.draws, viewer[who], key[who], column_of, dwell_ms[who])
        yield from self._narrator.actions(viewer[who], row[who], column_of, left_ms[who] - early)
        np.add.at(self.posts["n_likes"], row[did[:, COLUMN[Action.LIKE]]], 1)
        self._estrange(viewer, row, did)
        yield from self._told_searches(visits)

    def _queue(self, action: Action, kind: int, viewer: Int64Array, row: Int64Array, left_ms: Int64Array) -> None:
        """Remember responses to be published when they are written."""
        posts = self.posts
        key = posts["key"][row]
        delay = self.draws.uniform(Purpose.ACTION_DELAY, viewer, key, int(action)) * _MAX_RESPONSE_DELAY_MS
        is_reply = kind == REPLY
        new: Columns = {
            "key": self.draws.bits(Purpose.POST_KEY, viewer, key, int(action)),
            "author": viewer,
            "created_ms": left_ms + (0 if kind == REPOST else 1_000 + delay.astype(np.int64)),
            "kind": np.full(len(row), kind, dtype=np.int8),
            "parent": row,
            "root": posts["root"][row] if is_reply else np.full(len(row), -1, dtype=np.int64),
            "topic": posts["topic"][row],
            "language": posts["language"][row],
            "quality": 0.5 * posts["quality"][row] + 0.5 * self.people.quality[viewer],
            "attraction": 0.5 * self.people.charisma[viewer] * self.people.quality[viewer],
            "is_sensitive": posts["is_sensitive"][row],
        }
        old = self._queued
        self._queued = new if old is None else {name: np.concatenate([old[name], new[name]]) for name in new}

    def _estrange(self, viewer: Int64Array, row: Int64Array, did: BoolArray) -> None:
        author, n = self.posts["author"][row], self.people.n_users
        blocked, muted = did[:, COLUMN[Action.BLOCK_AUTHOR]], did[:, COLUMN[Action.MUTE_AUTHOR]]
        apart = blocked | muted
        self._estranged = np.concatenate(
            [self._estranged, viewer[apart] * n + author[apart], author[blocked] * n + viewer[blocked]]
        )

    def _told_searches(self, visits: Visits) -> Iterator[Told]:
        first = np.flatnonzero(visits.position == 0)
        viewer, started = visits.viewer[first], visits.started_ms[first]
        bits = self.draws.bits(Purpose.SEARCH, viewer, started)
        who = np.flatnonzero(bits % np.uint64(10_000) < np.uint64(int(_SEARCH_FRAC * 10_000)))
        yield from self._narrator.searches(viewer[who], (bits[who] >> np.uint64(2)).astype(np.int64), started[who])

    def _told_keyword_mutes(self, users: Int64Array) -> Iterator[Told]:
        u = self.draws.uniform(Purpose.KEYWORD_MUTE, users, 0) if len(users) else np.empty(0)
        who = users[u < _KEYWORD_MUTE_FRAC]
        topic = (self.draws.uniform(Purpose.KEYWORD_MUTE, who, 1) * N_TOPICS).astype(np.int64)
        foreign = self.people.interests[who, topic] == 0
        yield from self._narrator.keyword_mutes(who[foreign], topic[foreign], self._joined_ms[who[foreign]] + 60_000)

    def _draw_joined(self) -> Int64Array:
        """People join in the first third of the founding, before anybody follows anybody."""
        u = self.draws.uniform(Purpose.JOINED, np.arange(self.people.n_users))
        return self._begin_ms + (u * (self._history_ms - self._begin_ms) / 3).astype(np.int64)

    def _draw_edges(self) -> tuple[_Edges, _Edges]:
        graph, draws = self.graph, self.draws
        who, whom = graph.followers, graph.followees
        founding_ms = self._history_ms - self._begin_ms
        u = draws.uniform(Purpose.FOLLOW_TIME, who, whom, 0)
        times = self._begin_ms + founding_ms // 3 + (u * (founding_ms - founding_ms // 3)).astype(np.int64)
        is_late = draws.uniform(Purpose.FOLLOW_TIME, who, whom, 1) < self.config.late_follow_frac
        times = np.where(is_late, self._history_ms + (u * self.config.history_ms).astype(np.int64), times)
        ends = draws.uniform(Purpose.UNFOLLOW, who, whom, 0) < self.config.unfollow_frac
        ended = np.flatnonzero(ends & ~is_late)
        again = draws.uniform(Purpose.UNFOLLOW, who[ended], whom[ended], 1)
        end_times = self._history_ms + (again * self.config.history_ms).astype(np.int64)
        order, end_order = np.argsort(times, kind="stable"), np.argsort(end_times, kind="stable")
        told = _Edges(times[order], who[order], whom[order])
        return told, _Edges(end_times[end_order], who[ended][end_order], whom[ended][end_order])


def simulate_history(config: WorldConfig, now_ms: int) -> Iterator[AnyEvent]:
    """Yield the events of a world's history, ordered by time, the newest just before ``now_ms``.

    The same configuration and ``now_ms`` give the same events, byte for byte. Memory: the world's columns (about
    100 bytes a post, 8 bytes a meeting of viewer and post) and the events of one slice.

    Examples
    --------
    >>> events = list(simulate_history(WorldConfig(size="tiny", n_users=20), now_ms=1_800_000_000_000))
    >>> all(a.event_time_ms <= b.event_time_ms < 1_800_000_000_000 for a, b in zip(events, events[1:]))
    True
    """
    return World(config, now_ms).history()


def draws_before_leaving(
    draws: Draws,
    viewer: Int64Array,
    key: np.ndarray[tuple[int], np.dtype[np.uint64]],
    column: Int64Array,
    dwell_ms: Int64Array,
) -> Int64Array:
    """Return how long before the end of the look each action was done, shape (n,)."""
    return (draws.uniform(Purpose.ACTION_DELAY, viewer, key, column, 1) * np.minimum(dwell_ms, 5_000)).astype(np.int64)


def _running_sum(values: Int64Array, group: Int64Array) -> Int64Array:
    """Return the running sum within runs of equal ``group``, shape (n,)."""
    total = np.cumsum(values)
    _, first = np.unique(group, return_index=True)
    sizes = np.diff(np.append(first, len(group)))
    return total - np.repeat(total[first] - values[first], sizes)


def _time_of(told: Told) -> int:
    return told[0]


def _first_at(told: list[Told], time_ms: int) -> int:
    """Return how many are told before ``time_ms``."""
    low, high = 0, len(told)
    while low < high:
        middle = (low + high) // 2
        if told[middle][0] < time_ms:
            low = middle + 1
        else:
            high = middle
    return low
