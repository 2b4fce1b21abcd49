"""A small state of two folds: for tests of whatever carries states without caring what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdHasher, IdKind
from millrace.events.content_events import PostCreated
from millrace.events.envelope import Payload
from millrace.events.feed_events import Engagement
from millrace.stores.fold import Arrays, EventBatch, Fold
from millrace.stores.watermark import Watermark

_PRIME: Final = 1_000_000_007


class PostLog:
    """Every post's inside id and offset, in order, in an array that doubles when it is full."""

    name = "post_log"
    handles: tuple[type[Payload], ...] = (PostCreated,)

    def __init__(self, hasher: IdHasher) -> None:
        self._hasher = hasher
        self.rows = np.zeros((4, 2), dtype=np.int64)
        self.n = np.zeros(1, dtype=np.int64)

    def apply(self, batch: EventBatch) -> None:
        """Append the posts."""
        for row in batch.rows_of(self.handles):
            if int(self.n[0]) == len(self.rows):
                self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
            post_id = self._hasher.one(IdKind.POST, batch.events[row].payload.post_id)
            self.rows[int(self.n[0])] = (post_id, batch.offsets[row])
            self.n[0] += 1

    def tick(self, watermark_ms: int) -> None:
        """Keep everything."""

    def arrays(self) -> Arrays:
        """Return rows and count."""
        return {"rows": self.rows, "n": self.n}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over rows and count."""
        self.rows, self.n = arrays["rows"], arrays["n"]


class Tally:
    """Engagements by action and the ticks so far: shows whether ticks fall where they should."""

    name = "tally"
    handles: tuple[type[Payload], ...] = (Engagement,)

    def __init__(self) -> None:
        self.counts = np.zeros(8, dtype=np.int64)
        self.ticks = np.zeros((2,), dtype=np.int64)

    def apply(self, batch: EventBatch) -> None:
        """Count by the length of the action's name; the sum of offsets betrays any wrong order."""
        for row in batch.rows_of(self.handles):
            slot = len(batch.events[row].payload.action) % 8
            self.counts[slot] = (int(self.counts[slot]) * 31 + int(batch.offsets[row]) + 1) % _PRIME

    def tick(self, watermark_ms: int) -> None:
        """Remember the tick, mixed with what had been counted at that moment."""
        self.ticks[0] += 1
        self.ticks[1] = (int(self.ticks[1]) * 31 + watermark_ms + int(self.counts[0])) % _PRIME

    def arrays(self) -> Arrays:
        """Return counts and ticks."""
        return {"counts": self.counts, "ticks": self.ticks}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over counts and ticks."""
        self.counts, self.ticks = arrays["counts"], arrays["ticks"]


class SmallState:
    """A `millrace.stores.replica.FoldedState` of `PostLog` and `Tally`."""

    def __init__(self) -> None:
        self.posts = PostLog(IdHasher())
        self.tally = Tally()
        self.watermark = Watermark()

    def folds(self) -> Sequence[Fold]:
        """Return both folds."""
        return (self.posts, self.tally)
