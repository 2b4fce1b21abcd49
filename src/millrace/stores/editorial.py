"""`EditorialStore`: the pool of posts that the operator picked.

A pick leaves when it is taken back, when its post is deleted, when its time is over, and when no post lives that long
any more, by the log's watermark. The picks of an erased author's posts wait for that too: this fold does not know who
wrote a post, whoever reads the pool looks whether a post lives, and a time beside a hash names nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.events.content_events import EditorialPicked, PostDeleted
from millrace.events.envelope import Payload
from millrace.stores.fold import Arrays, EventBatch

MAX_PICKS: Final = 1_024

FOR_EVER: Final = np.iinfo(np.int64).max
"""The ``until_ms`` of a pick without an end of its own."""

_RETENTION_MS: Final = 96 * 3_600_000

_POST: Final = 0
_PICKED_MS: Final = 1
_UNTIL_MS: Final = 2
_N_COLUMNS: Final = 3


class Picks(NamedTuple):
    """Picked posts, the newest pick first; every array has shape (n,), int64. ``until_ms`` may be `FOR_EVER`."""

    post_ids: Int64Array
    picked_ms: Int64Array
    until_ms: Int64Array


class EditorialStore:
    """Fold of `EditorialPicked` and `PostDeleted`: the newest picks, in the order of picking.

    A post stands once in the pool, at the place of its newest pick; where there are too many, the oldest pick leaves.

    Parameters
    ----------
    hasher
        Ids to inside ids.
    max_picks
        How many posts at most.
    retention_ms
        Picks appended so long ago, by the log's watermark, are let go; longer than posts live.
    """

    name = "editorial"
    handles: tuple[type[Payload], ...] = (EditorialPicked, PostDeleted)

    def __init__(self, hasher: IdHasher, *, max_picks: int = MAX_PICKS, retention_ms: int = _RETENTION_MS) -> None:
        self._hasher = hasher
        self._retention_ms = retention_ms
        self._rows: Int64Array = np.zeros((max_picks, _N_COLUMNS), dtype=np.int64)
        self._n: Int64Array = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._n[0])

    def picks(self, now_ms: int) -> Picks:
        """Return the picks whose time is not over, the newest first."""
        rows = self._rows[: len(self)][::-1]
        return Picks(*rows[rows[:, _UNTIL_MS] > now_ms].T.copy())

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        for row in batch.rows_of(self.handles):
            payload = batch.events[row].payload
            if not len(self) and not isinstance(payload, EditorialPicked):
                continue
            post_id = self._hasher.one(IdKind.POST, payload.post_id)
            rows = self._rows[: len(self)]
            self._keep(rows[:, _POST] != post_id)
            if isinstance(payload, EditorialPicked) and payload.is_picked:
                until_ms = FOR_EVER if payload.until_ms is None else payload.until_ms
                self._append(post_id, int(batch.appended_ms[row]), until_ms)

    def tick(self, watermark_ms: int) -> None:
        """Let go of what is over."""
        rows = self._rows[: len(self)]
        self._keep((rows[:, _UNTIL_MS] > watermark_ms) & (rows[:, _PICKED_MS] > watermark_ms - self._retention_ms))

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {"rows": self._rows, "n": self._n}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._rows, self._n = arrays["rows"], arrays["n"]

    def _keep(self, is_kept: npt.NDArray[np.bool_]) -> None:
        n = int(is_kept.sum())
        if n < len(is_kept):
            self._rows[:n] = self._rows[: len(is_kept)][is_kept]
            self._rows[n : len(is_kept)] = 0
            self._n[0] = n

    def _append(self, post_id: int, picked_ms: int, until_ms: int) -> None:
        n = len(self)
        if n == len(self._rows):
            self._rows[:-1] = self._rows[1:].copy()
            n -= 1
        self._rows[n] = post_id, picked_ms, until_ms
        self._n[0] = n + 1
