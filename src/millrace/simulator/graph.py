"""Who follows whom: preferential attachment, homophily by language and interest, triangles, returned follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.simulator.config import WorldConfig
from millrace.simulator.draws import Draws, Float64Array, Int64Array, Purpose
from millrace.simulator.people import N_TOPICS, BoolArray, People, choose_by_row

_N_ROUNDS: Final = 4
_ATTACHMENT: Final = 0.70
_LOG_SIGMA: Final = 1.4
_PULL_OF_FOLLOWING: Final = 0.6
"""Who follows many is followed by many: the two go together in every public graph."""

_MAX_FOLLOWS: Final = 600


@dataclass(frozen=True, slots=True)
class Graph:
    """Follows, sorted by follower and then in the order of following.

    Attributes
    ----------
    starts
        Shape (n_users + 1,), int64: a user's follows are ``followees[starts[u]:starts[u + 1]]``.
    followers, followees
        Shape (n_edges,), int64.
    keys
        Shape (n_edges,), int64: ``follower * n_users + followee``, ascending, for membership tests.
    """

    starts: Int64Array
    followers: Int64Array
    followees: Int64Array
    keys: Int64Array

    @property
    def n_edges(self) -> int:
        """How many follows there are."""
        return len(self.followees)

    def n_following(self, users: Int64Array) -> Int64Array:
        """Return how many each of these users follows, shape (n,)."""
        return self.starts[users + 1] - self.starts[users]

    def pick_followee(self, users: Int64Array, u: Float64Array) -> Int64Array:
        """Return one followee each, drawn uniformly with these uniforms, shape (n,); -1 for who follows nobody."""
        count = self.n_following(users)
        at = self.starts[users] + np.minimum((u * count).astype(np.int64), np.maximum(count - 1, 0))
        if not self.n_edges:
            return np.full(len(users), -1, dtype=np.int64)
        return np.where(count > 0, self.followees[np.minimum(at, self.n_edges - 1)], -1)

    def is_following(self, follower: Int64Array, followee: Int64Array) -> BoolArray:
        """Return which of these follow those, shape (n,)."""
        wanted = follower * (len(self.starts) - 1) + followee
        if not self.n_edges:
            return np.zeros(len(wanted), dtype=np.bool_)
        found: BoolArray = self.keys[np.minimum(np.searchsorted(self.keys, wanted), self.n_edges - 1)] == wanted
        return found


class _AuthorGroups:
    """Authors by (language, topic), drawable in proportion to their weights; one more group holds everybody."""

    def __init__(self, people: People) -> None:
        user, topic = np.nonzero(people.interests > 0)
        self.n_groups = (int(people.language.max()) + 1) * N_TOPICS + 1
        group = people.language[user].astype(np.int64) * N_TOPICS + topic
        everybody = np.arange(people.n_users)
        order = np.argsort(group, kind="stable")
        self.author = np.concatenate([user[order], everybody])
        self._share = np.concatenate([people.interests[user, topic][order], np.ones(people.n_users)])
        sizes = np.bincount(group, minlength=self.n_groups - 1)
        self._starts = np.concatenate([[0], np.cumsum(np.append(sizes, people.n_users))])
        self._cumulative = np.zeros(len(self.author) + 1)

    def weigh(self, weight: Float64Array) -> None:
        """Set the authors' weights, shape (n_users,)."""
        np.cumsum(weight[self.author] * self._share, out=self._cumulative[1:])

    def pick(self, group: Int64Array, u: Float64Array) -> Int64Array:
        """Return an author of each group, shape (n,); empty groups fall back to everybody."""
        empty = self._starts[group + 1] == self._starts[group]
        group = np.where(empty, self.n_groups - 1, group)
        low, high = self._cumulative[self._starts[group]], self._cumulative[self._starts[group + 1]]
        at = np.searchsorted(self._cumulative, low + u * (high - low), side="right") - 1
        picked: Int64Array = self.author[np.clip(at, self._starts[group], self._starts[group + 1] - 1)]
        return picked


def make_graph(config: WorldConfig, draws: Draws, people: People) -> Graph:
    """Return the follow graph at the end of the world's history."""
    n = people.n_users
    user = np.arange(n)
    z = draws.normal(Purpose.N_FOLLOWS, user)
    wanted = np.exp(np.log(config.follows_median) + _LOG_SIGMA * z)
    wanted_n = np.clip(wanted, 2, min(_MAX_FOLLOWS, max(2, n // 4))).astype(np.int64)
    wanted_n[draws.uniform(Purpose.FOLLOW_MODE, user) < config.follows_nobody_frac] = 0
    base = (
        np.exp(_PULL_OF_FOLLOWING * z)
        * people.charisma
        * (0.1 + people.originals_per_day) ** 0.6
        * (0.25 + people.quality) ** 2
    )
    groups = _AuthorGroups(people)
    keys = np.empty(0, dtype=np.int64)
    in_degree = np.zeros(n, dtype=np.int64)
    for round_ in range(_N_ROUNDS):
        groups.weigh(base * (1.0 + in_degree) ** _ATTACHMENT)
        follower = np.repeat(user, (wanted_n + _N_ROUNDS - 1 - round_) // _N_ROUNDS)
        picked = _pick(config, draws, people, groups, follower, round_)
        if round_ > 0:
            picked = _close_triangles(config, draws, _by_follower(keys, n), follower, picked, round_)
        keys = _append_new(keys, follower, picked, n)
        in_degree = np.bincount(keys % n, minlength=n)
    returned = draws.uniform(Purpose.RECIPROCITY, keys) < config.reciprocity_frac
    keys = _append_new(keys, keys[returned] % n, keys[returned] // n, n)
    return _by_follower(keys, n)


def _pick(
    config: WorldConfig, draws: Draws, people: People, groups: _AuthorGroups, follower: Int64Array, round_: int
) -> Int64Array:
    """Return a followee per wish: mostly of the follower's languages and interests, else anybody."""
    wish = np.arange(len(follower))
    topic = choose_by_row(people.interests[follower], draws.uniform(Purpose.FOLLOW_TOPIC, round_, wish))
    mode = draws.uniform(Purpose.FOLLOW_MODE, round_, wish)
    second = people.second_language[follower]
    language = np.where((second >= 0) & (mode < 0.2 * config.homophily_frac), second, people.language[follower])
    group = np.where(mode < config.homophily_frac, language.astype(np.int64) * N_TOPICS + topic, groups.n_groups - 1)
    return groups.pick(group, draws.uniform(Purpose.FOLLOW_PICK, round_, wish))


def _close_triangles(
    config: WorldConfig, draws: Draws, graph: Graph, follower: Int64Array, picked: Int64Array, round_: int
) -> Int64Array:
    """Replace a share of the picks by somebody whom somebody followed already follows."""
    wish = np.arange(len(follower))
    friend = graph.pick_followee(follower, draws.uniform(Purpose.TRIANGLE, round_, wish, 0))
    theirs = graph.pick_followee(np.maximum(friend, 0), draws.uniform(Purpose.TRIANGLE, round_, wish, 1))
    closes = (draws.uniform(Purpose.TRIANGLE, round_, wish, 2) < config.triangle_frac) & (friend >= 0) & (theirs >= 0)
    return np.where(closes, theirs, picked)


def _append_new(keys: Int64Array, follower: Int64Array, followee: Int64Array, n: int) -> Int64Array:
    """Return the follows with new ones added: nobody follows anybody twice, or themselves."""
    other = follower != followee
    both = np.concatenate([keys, follower[other] * n + followee[other]])
    _, first = np.unique(both, return_index=True)
    return both[np.sort(first)]


def _by_follower(keys: Int64Array, n: int) -> Graph:
    follower = keys // n
    order = np.argsort(follower, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(follower, minlength=n))])
    return Graph(
        starts=starts.astype(np.int64), followers=follower[order], followees=(keys % n)[order], keys=np.sort(keys)
    )
