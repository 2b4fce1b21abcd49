"""`Memory`: what the world keeps of what happened: who met what, what tires whom, moods, attention, who liked what.

Plain arrays throughout, so that a run can be written down between two slices and taken up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.kernels import njit
from millrace.simulator.draws import Float64Array, Int64Array
from millrace.simulator.people import N_TOPICS, BoolArray

N_RECENT: Final = 48
"""Looks whose authors a viewer remembers."""

N_LIKERS: Final = 8
"""Newest likers of a post, of whom a viewer may know some."""

_TOPIC_HALF_LIFE_MS: Final = 6 * 3_600_000
_ATTENTION_HALF_LIFE_MS: Final = 24 * 3_600_000
_MOOD_WEIGHT: Final = 0.3
_NEWEST_SHARE: Final = 8
_HALF_ATTENTION: Final = 1.2
"""Reactions per post at which an author writes about as much as they are used to."""

Arrays = dict[str, npt.NDArray[Any]]
Int32Matrix = npt.NDArray[np.int32]


class Memory:
    """Everything that is remembered.

    Parameters
    ----------
    n_users
        People.

    Attributes
    ----------
    mood
        Mean satisfaction per look of the last visits, shape (n_users,).
    away_until_ms
        Before this moment a bored viewer does not come back, shape (n_users,).
    reactions, written
        Decayed reactions to an author's posts and number of posts, shape (n_users,).
    """

    def __init__(self, n_users: int) -> None:
        self.mood = np.zeros(n_users, dtype=np.float64)
        self.away_until_ms = np.zeros(n_users, dtype=np.int64)
        self.reactions = np.zeros(n_users, dtype=np.float64)
        self.written = np.zeros(n_users, dtype=np.float64)
        self.recent_authors = np.full((n_users, N_RECENT), -1, dtype=np.int32)
        self.recent_at = np.zeros(n_users, dtype=np.int64)
        self.topic_looks = np.zeros((n_users, N_TOPICS), dtype=np.float64)
        self.likers = np.full((1024, N_LIKERS), -1, dtype=np.int32)
        self.n_likers = np.zeros(1024, dtype=np.int64)
        # The newest apart: they are merged into the many when there is an eighth as many of them.
        self.meetings = np.empty(0, dtype=np.int64)
        self.newest_meetings = np.empty(0, dtype=np.int64)

    def pass_time(self, elapsed_ms: int) -> None:
        """Let what decays decay."""
        self.topic_looks *= 0.5 ** (elapsed_ms / _TOPIC_HALF_LIFE_MS)
        fade = 0.5 ** (elapsed_ms / _ATTENTION_HALF_LIFE_MS)
        self.reactions *= fade
        self.written *= fade

    def effort(self, pull: float) -> Float64Array:
        """Return how much each author writes relative to what they are used to, shape (n_users,).

        Attention makes them write more, up to half again; silence makes them stop, down to a sixth. Who has not
        written lately writes as usual. ``pull`` 0 switches it off.
        """
        per_post = (self.reactions + _HALF_ATTENTION) / (self.written + 1.0)
        effort: Float64Array = 1.0 + pull * (0.15 + 1.7 * per_post / (per_post + _HALF_ATTENTION) - 1.0)
        return effort

    def occasions(self, viewer: Int64Array, row: Int64Array) -> Int64Array:
        """Return how often each viewer has met each post before, shape (n,)."""
        out = np.zeros(len(viewer), dtype=np.int64)
        for meetings in (self.meetings, self.newest_meetings):
            if len(meetings):
                _count_meetings(viewer, row, meetings, out)
        return out

    def meet(self, viewer: Int64Array, row: Int64Array) -> None:
        """Remember that these viewers have met these posts."""
        self.newest_meetings = _merged(self.newest_meetings, np.sort((viewer << 32) | row))
        if len(self.newest_meetings) * _NEWEST_SHARE > len(self.meetings):
            self.meetings = _merged(self.meetings, self.newest_meetings)
            self.newest_meetings = np.empty(0, dtype=np.int64)

    def looked(self, viewer: Int64Array, author: Int64Array, topic: npt.NDArray[np.int8]) -> None:
        """Remember whose posts about what were looked at, in order."""
        _remember_authors(self.recent_authors, self.recent_at, viewer, author)
        _remember_topics(self.topic_looks, viewer, topic)

    def liked(self, viewer: Int64Array, row: Int64Array, n_posts: int) -> None:
        """Remember who liked what, in order."""
        if n_posts > len(self.n_likers):
            grown = max(n_posts, 2 * len(self.n_likers))
            likers = np.full((grown, N_LIKERS), -1, dtype=np.int32)
            likers[: len(self.likers)] = self.likers
            counts = np.zeros(grown, dtype=np.int64)
            counts[: len(self.n_likers)] = self.n_likers
            self.likers, self.n_likers = likers, counts
        _remember_likers(self.likers, self.n_likers, viewer, row)

    def n_proofs(self, viewer: Int64Array, row: Int64Array, follow_keys: Int64Array, n_users: int) -> Int64Array:
        """Return how many of a post's newest likers each viewer follows, shape (n,).

        Parameters
        ----------
        follow_keys
            ``follower * n_users + followee``, ascending.
        """
        out = np.zeros(len(viewer), dtype=np.int64)
        _count_proofs(viewer, row, self.likers, follow_keys, n_users, out)
        return out

    def surroundings(
        self, viewer: Int64Array, author: Int64Array, topic: npt.NDArray[np.int8], page: Int64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return how often author and topic were met lately, rows above on the same page included, shape (n,) each.

        ``page`` numbers pages, rows of one page stand together.
        """
        authors, topics = np.zeros(len(viewer)), np.zeros(len(viewer))
        _count_above(viewer, author, topic, page, self.recent_authors, self.topic_looks, authors, topics)
        return authors, topics

    def feel(self, viewer: Int64Array, satisfaction: Float64Array) -> None:
        """Let visits change moods; one visit a viewer."""
        self.mood[viewer] += _MOOD_WEIGHT * (satisfaction - self.mood[viewer])

    def arrays(self) -> Arrays:
        """Return everything, by name."""
        return dict(vars(self))

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave."""
        for name in vars(self):
            setattr(self, name, arrays[name].copy())


@njit(cache=True)
def _remember_authors(recent: Int32Matrix, at: Int64Array, viewer: Int64Array, author: Int64Array) -> None:
    for i in range(len(viewer)):
        v = viewer[i]
        recent[v, at[v] % recent.shape[1]] = author[i]
        at[v] += 1


@njit(cache=True)
def _remember_topics(looks: Float64Array, viewer: Int64Array, topic: npt.NDArray[np.int8]) -> None:
    for i in range(len(viewer)):
        looks[viewer[i], topic[i]] += 1.0


@njit(cache=True)
def _remember_likers(likers: Int32Matrix, counts: Int64Array, viewer: Int64Array, row: Int64Array) -> None:
    for i in range(len(viewer)):
        r = row[i]
        likers[r, counts[r] % likers.shape[1]] = viewer[i]
        counts[r] += 1


@njit(cache=True)
def _first_at(keys: Int64Array, low: int, high: int, wanted: int) -> int:
    """Return where ``wanted`` is or would be in the ascending ``keys[low:high]``."""
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _merged(old: Int64Array, new: Int64Array) -> Int64Array:
    """Return two ascending arrays as one."""
    out = np.empty(len(old) + len(new), dtype=np.int64)
    i = j = 0
    for at in range(len(out)):
        if j == len(new) or (i < len(old) and old[i] <= new[j]):
            out[at] = old[i]
            i += 1
        else:
            out[at] = new[j]
            j += 1
    return out


@njit(cache=True)
def _count_meetings(viewer: Int64Array, row: Int64Array, meetings: Int64Array, out: Int64Array) -> None:
    low = high = 0
    for i in range(len(viewer)):
        if i == 0 or viewer[i] != viewer[i - 1]:  # one viewer's rows stand together mostly
            low = _first_at(meetings, 0, len(meetings), viewer[i] << 32)
            high = _first_at(meetings, low, len(meetings), (viewer[i] + 1) << 32)
        key = (viewer[i] << 32) | row[i]
        at = _first_at(meetings, low, high, key)
        while at < high and meetings[at] == key:
            out[i] += 1
            at += 1


@njit(cache=True)
def are_followed(viewer: Int64Array, author: Int64Array, keys: Int64Array, n_users: int) -> BoolArray:
    """Return which viewers follow which authors, shape (n,), by ``follower * n_users + followee``, ascending."""
    out = np.empty(len(viewer), dtype=np.bool_)
    low = high = 0
    for i in range(len(viewer)):
        if i == 0 or viewer[i] != viewer[i - 1]:
            low = _first_at(keys, 0, len(keys), viewer[i] * n_users)
            high = _first_at(keys, low, len(keys), (viewer[i] + 1) * n_users)
        wanted = viewer[i] * n_users + author[i]
        at = _first_at(keys, low, high, wanted)
        out[i] = at < high and keys[at] == wanted
    return out


@njit(cache=True)
def _count_proofs(
    viewer: Int64Array, row: Int64Array, likers: Int32Matrix, keys: Int64Array, n_users: int, out: Int64Array
) -> None:
    low = high = 0
    for i in range(len(viewer)):
        if i == 0 or viewer[i] != viewer[i - 1]:
            low = _first_at(keys, 0, len(keys), viewer[i] * n_users)
            high = _first_at(keys, low, len(keys), (viewer[i] + 1) * n_users)
        if row[i] >= len(likers):
            continue
        for slot in range(likers.shape[1]):
            liker = likers[row[i], slot]
            if liker < 0:
                break
            wanted = viewer[i] * n_users + liker
            at = _first_at(keys, low, high, wanted)
            if at < high and keys[at] == wanted:
                out[i] += 1


@njit(cache=True)
def _count_above(
    viewer: Int64Array,
    author: Int64Array,
    topic: npt.NDArray[np.int8],
    page: Int64Array,
    recent: Int32Matrix,
    topic_looks: Float64Array,
    authors: Float64Array,
    topics: Float64Array,
) -> None:
    start = 0
    for i in range(len(viewer)):
        if i > 0 and page[i] != page[i - 1]:
            start = i
        count = 0
        seen, wanted = recent[viewer[i]], np.int32(author[i])  # plain and as wide as what it is held against: in lanes
        for slot in range(len(seen)):
            count += seen[slot] == wanted
        above = 0
        for j in range(start, i):
            if author[j] == author[i]:
                count += 1
            if topic[j] == topic[i]:
                above += 1
        authors[i] = count
        topics[i] = topic_looks[viewer[i], topic[i]] + above


def first_of_runs(values: Int64Array) -> BoolArray:
    """Return which rows begin a run of equal values, shape (n,)."""
    first = np.ones(len(values), dtype=np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first
