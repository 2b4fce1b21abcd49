"""`ResponseQueue`: replies, reposts and quotes that were decided on and are written a little later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.actions import Action
from millrace.simulator.draws import Draws, Int64Array, Purpose
from millrace.simulator.people import People
from millrace.simulator.posts import QUOTE, REPLY, REPOST, Columns, PostTable

RESPONSE_KINDS: Final = {Action.REPLY: REPLY, Action.REPOST: REPOST, Action.QUOTE: QUOTE}
_MAX_DELAY_MS: Final = 8 * 60_000
_CARRIED: Final = {"media": 0, "duration_ms": 0, "has_link": False, "story": -1}
"""What of a post its reposts show too, and what answers have instead."""


class ResponseQueue:
    """Posts to come, with what they answer.

    Parameters
    ----------
    draws, people, posts
        Of the world.
    """

    def __init__(self, draws: Draws, people: People, posts: PostTable) -> None:
        self._draws = draws
        self._people = people
        self._posts = posts
        nobody = np.empty(0, dtype=np.int64)
        self._queued = self._columns(Action.REPLY, REPLY, nobody, nobody, nobody)

    def add(self, action: Action, kind: int, viewer: Int64Array, row: Int64Array, left_ms: Int64Array) -> None:
        """Take responses of viewers to posts; they are written within minutes, reposts at once."""
        new = self._columns(action, kind, viewer, row, left_ms)
        self._queued = {name: np.concatenate([self._queued[name], new[name]]) for name in new}

    def due(self, stop_ms: int) -> Columns:
        """Return and forget the posts that are written before a moment."""
        is_due = self._queued["created_ms"] < stop_ms
        due = {name: values[is_due] for name, values in self._queued.items()}
        self._queued = {name: values[~is_due] for name, values in self._queued.items()}
        return due

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything, by name."""
        return dict(self._queued)

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over what `arrays` gave."""
        self._queued = {name: values.copy() for name, values in arrays.items()}

    def _columns(self, action: Action, kind: int, viewer: Int64Array, row: Int64Array, left_ms: Int64Array) -> Columns:
        posts, n = self._posts, len(row)
        key = posts["key"][row]
        delay = (
            self._draws.uniform(Purpose.ACTION_DELAY, viewer, key, int(action)) * _MAX_DELAY_MS if n else np.empty(0)
        )
        own = self._draws.bits(Purpose.POST_KEY, viewer, key, int(action)) if n else np.empty(0, dtype=np.uint64)
        is_reply = kind == REPLY
        return {
            "key": own,
            "author": viewer,
            "created_ms": left_ms + (0 if kind == REPOST else 1_000 + delay.astype(np.int64)),
            "kind": np.full(n, kind, dtype=np.int8),
            "parent": row,
            "root": posts["root"][row] if is_reply else np.full(n, -1, dtype=np.int64),
            "topic": posts["topic"][row],
            "language": posts["language"][row],
            "quality": self._quality(kind, viewer, row),
            "attraction": 0.5 * self._people.charisma[viewer] * self._people.quality[viewer],
            "is_sensitive": posts["is_sensitive"][row],
            **{name: posts[name][row] if kind == REPOST else np.full(n, fill) for name, fill in _CARRIED.items()},
        }

    def _quality(self, kind: int, viewer: Int64Array, row: Int64Array) -> npt.NDArray[Any]:
        """A repost is as good as what it carries; an answer is half its author's."""
        quality = self._posts["quality"][row]
        return quality if kind == REPOST else 0.5 * quality + 0.5 * self._people.quality[viewer]
