"""`SeenStore`: which posts a viewer has seen and which were sent to them; newest kept, by time at the read."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.base.kernels import njit
from millrace.events.envelope import Payload
from millrace.events.feed_events import Impression, Served
from millrace.events.user_events import UserErased
from millrace.stores.engagement_config import SeenConfig
from millrace.stores.fold import Arrays, EventBatch
from millrace.stores.rings import make_room, ring_push, rings_have_room
from millrace.stores.row_table import Rows, RowTable, rows_drop, rows_find, rows_fit, rows_take
from millrace.stores.slab_lists import Slab, SlabLists, slab_clear, slab_find, slab_remove, slab_slot

_SEEN: Final = 0
_SERVED: Final = 1
_ERASE: Final = 2
_N_OP_FIELDS: Final = 4
_N_WORDS: Final = 2


class SeenStore:
    """Fold of what viewers have seen (`Impression`) and have been sent (`Served`).

    Each viewer has two rings, of ``max_seen`` and ``max_served`` posts. A post stands once in a ring, at the place and
    with the time of its newest event. The fold keeps what fits; readers leave out what is older than the time to live.

    Parameters
    ----------
    config
        Lengths and times to live.
    hasher
        Ids to inside ids.
    """

    name = "seen"
    handles: tuple[type[Payload], ...] = (Impression, Served, UserErased)

    def __init__(self, config: SeenConfig, hasher: IdHasher) -> None:
        self._config = config
        self._hasher = hasher
        self._max_len = np.array([config.max_seen, config.max_served], dtype=np.int64)
        self._viewers = RowTable(64)
        self._rings = SlabLists(_N_WORDS, n_rows=128)

    @property
    def n_viewers(self) -> int:
        """How many viewers have seen or been sent anything."""
        return len(self._viewers)

    def seen(self, viewer_id: int, now_ms: int, *, ttl_ms: int | None = None) -> Int64Array:
        """Return the posts a viewer saw less than ``ttl_ms`` (``seen_ttl_ms``) ago, oldest first, shape (n,), int64."""
        return self._read(viewer_id, _SEEN, now_ms - (self._config.seen_ttl_ms if ttl_ms is None else ttl_ms))

    def served(self, viewer_id: int, now_ms: int, *, ttl_ms: int | None = None) -> Int64Array:
        """Return the posts sent to a viewer less than ``ttl_ms`` (``served_ttl_ms``) ago, oldest first, shape (n,)."""
        return self._read(viewer_id, _SERVED, now_ms - (self._config.served_ttl_ms if ttl_ms is None else ttl_ms))

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        ops = self._operations(batch)
        done = 0
        while True:
            done = _fold(self._viewers.rows, self._rings.slab, self._max_len, ops, done)
            if done == len(ops):
                return
            if self._viewers.is_full(1):
                self._viewers.grow()
                self._rings.grow_rows()
            make_room(self._rings, int(self._max_len.max()))

    def tick(self, watermark_ms: int) -> None:
        """Nothing to do: rings are bounded, and readers leave out what is too old."""

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {**self._viewers.arrays("viewers"), **self._rings.arrays("rings")}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._viewers.load("viewers", arrays)
        self._rings.load("rings", arrays)

    def _read(self, viewer_id: int, ring: int, since_ms: int) -> Int64Array:
        row = self._viewers.row(viewer_id)
        if row < 0:
            return np.zeros(0, dtype=np.int64)
        records = self._rings.read(2 * row + ring)
        fresh: Int64Array = records[records[:, 1] > since_ms, 0]
        return fresh

    def _operations(self, batch: EventBatch) -> Int64Array:
        """Return the batch as operations, shape (n, 4), int64: what, viewer, post, time."""
        ops = array("q")
        add = ops.extend
        one = self._hasher.one
        post, user = IdKind.POST, IdKind.USER
        events, appended_ms = batch.events, batch.appended_ms.tolist()
        for row in batch.rows_of(self.handles):
            event = events[row]
            payload = event.payload
            at_ms = min(event.event_time_ms, appended_ms[row])
            kind = type(payload)
            if kind is Impression:
                add((_SEEN, one(user, payload.viewer_id), one(post, payload.post_id), at_ms))
            elif kind is Served:
                viewer = one(user, payload.viewer_id)
                for item in payload.items:
                    add((_SERVED, viewer, one(post, item.post_id), at_ms))
            else:
                add((_ERASE, one(user, payload.user_id), 0, at_ms))
        return np.frombuffer(ops, dtype=np.int64).reshape(-1, _N_OP_FIELDS)


@njit(cache=True)
def _fold(viewers: Rows, rings: Slab, max_len: Int64Array, ops: Int64Array, start: int) -> int:
    """Apply operations; return how far it came before it ran out of room, ``len(ops)`` when done."""
    longest = max(max_len[0], max_len[1])
    for i in range(start, len(ops)):
        if not rows_fit(viewers, 1) or not rings_have_room(rings, longest):
            return i
        kind, viewer_id, post_id, at_ms = ops[i, 0], ops[i, 1], ops[i, 2], ops[i, 3]
        row = rows_find(viewers, viewer_id)
        if kind == _ERASE:
            if row >= 0:
                slab_clear(rings, 2 * row)
                slab_clear(rings, 2 * row + 1)
                rows_drop(viewers, row)
            continue
        if row < 0:
            row = rows_take(viewers, viewer_id)
        ring = 2 * row + kind
        k = slab_find(rings, ring, post_id)
        if k >= 0:
            at_ms = max(at_ms, rings.words[slab_slot(rings, ring, k), 1])
            slab_remove(rings, ring, k)
        slot = ring_push(rings, ring, max_len[kind])
        rings.words[slot, 0] = post_id
        rings.words[slot, 1] = at_ms
    return len(ops)
