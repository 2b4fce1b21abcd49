"""`Follows`: who follows whom at this moment, and the schedule of what changes by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Draws, Int64Array, Purpose
from millrace.simulator.graph import Graph

_SETTLING_MS: Final = 48 * HOUR_MS
_AT_ONCE_FRAC: Final = 0.4
_AT_ONCE_MS: Final = HOUR_MS


@dataclass(frozen=True, slots=True)
class Edges:
    """Changes of follows with the times at which they are told, ascending."""

    times_ms: Int64Array
    followers: Int64Array
    followees: Int64Array

    def between(self, start_ms: int, stop_ms: int) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return followers, followees and times of one span."""
        part = slice(*np.searchsorted(self.times_ms, [start_ms, stop_ms]).tolist())
        return self.followers[part], self.followees[part], self.times_ms[part]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Follows and unfollows that come of themselves, whatever any feed does."""

    follows: Edges
    unfollows: Edges


def make_schedule(config: WorldConfig, draws: Draws, graph: Graph, joined_ms: Int64Array, history_ms: int) -> Schedule:
    """Return when each follow of the graph is made, and which are taken back when.

    Most are made while people join, some during the history. Who joins later follows some at once and the others
    within two days, and is followed by others from then on.

    Parameters
    ----------
    joined_ms
        When each person joins, shape (n_users,).
    history_ms
        When the history begins.
    """
    who, whom = graph.followers, graph.followees
    founders_ms = np.maximum(joined_ms[who], joined_ms[whom])
    u = draws.uniform(Purpose.FOLLOW_TIME, who, whom, 0)
    is_founding = founders_ms < history_ms
    times = founders_ms + 60_000 + (u * (history_ms - founders_ms - 60_000)).astype(np.int64)
    is_late = draws.uniform(Purpose.FOLLOW_TIME, who, whom, 1) < config.late_follow_frac
    times = np.where(is_late, history_ms + (u * config.history_ms).astype(np.int64), times)
    at_once = draws.uniform(Purpose.FOLLOW_TIME, who, whom, 2) < _AT_ONCE_FRAC
    settling = founders_ms + 60_000 + (u * np.where(at_once, _AT_ONCE_MS, _SETTLING_MS)).astype(np.int64)
    times = np.where(is_founding, times, settling)
    ends = (draws.uniform(Purpose.UNFOLLOW, who, whom, 0) < 4 * config.unfollow_frac) & ~is_late & is_founding
    ended = np.flatnonzero(ends)
    again = draws.uniform(Purpose.UNFOLLOW, who[ended], whom[ended], 1)
    # Over four times the history's length, so that it does not stop when the history does.
    end_times = history_ms + (again * 4 * config.history_ms).astype(np.int64)
    order, end_order = np.argsort(times, kind="stable"), np.argsort(end_times, kind="stable")
    return Schedule(
        Edges(times[order], who[order], whom[order]),
        Edges(end_times[end_order], who[ended][end_order], whom[ended][end_order]),
    )


class Follows:
    """Who follows whom now.

    Parameters
    ----------
    n_users
        People.

    Attributes
    ----------
    keys
        ``follower * n_users + followee``, ascending.
    """

    def __init__(self, n_users: int) -> None:
        self._n_users = n_users
        self.keys = np.empty(0, dtype=np.int64)

    def change(self, follower: Int64Array, followee: Int64Array, *, is_following: bool) -> None:
        """Add or take away follows; what is there already, or not there, stays as it is."""
        if not len(follower):
            return
        changed = np.unique(follower * self._n_users + followee)
        self.keys = np.union1d(self.keys, changed) if is_following else np.setdiff1d(self.keys, changed)

    def graph(self) -> Graph:
        """Return the follows as a graph."""
        n = self._n_users
        follower = self.keys // n
        starts = np.searchsorted(self.keys, np.arange(n + 1) * n)
        return Graph(starts=starts.astype(np.int64), followers=follower, followees=self.keys % n, keys=self.keys)
