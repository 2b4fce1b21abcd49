"""`LabelStore`: which safety labels posts and accounts carry now, one bit each.

Labels of a post go with the post: when it is deleted, and when nothing about them changed for longer than posts live,
from the append of the newest change on. The labels of an erased author's posts wait for that too: this fold does not
know who wrote a post, and a mask beside a hash names nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.base.int_table import IntTable
from millrace.events.content_events import LabelChanged, PostDeleted
from millrace.events.envelope import Payload
from millrace.events.user_events import UserErased
from millrace.stores.codes import CodeTables
from millrace.stores.fold import Arrays, EventBatch
from millrace.stores.slab_lists import doubled

UInt64Array = npt.NDArray[np.uint64]

_RETENTION_MS: Final = 96 * 3_600_000

MAX_LABELS: Final = 63
"""Codes 1 to 63 have a bit each (bit 0 stays unused, code 0 is "unknown"); further labels share none and are
ignored here. They stay in the log and the content store."""


class LabelStore:
    """Fold of `LabelChanged`, `PostDeleted` and `UserErased`: bit masks of labels per post and per account.

    Bit ``code`` of a mask is the label with that code in ``codes.labels``. An id without labels takes no room.

    Parameters
    ----------
    hasher
        Ids to inside ids.
    codes
        Names to codes; applied before this fold.
    retention_ms
        Labels of a post that did not change for so long, by the log's watermark, are let go; longer than posts live.
    """

    name = "labels"
    handles: tuple[type[Payload], ...] = (LabelChanged, PostDeleted, UserErased)

    def __init__(self, hasher: IdHasher, codes: CodeTables, *, retention_ms: int = _RETENTION_MS) -> None:
        self._hasher = hasher
        self._codes = codes
        self._retention_ms = retention_ms
        self._posts = _Masks()
        self._users = _Masks()

    def post_labels(self, post_ids: Int64Array) -> UInt64Array:
        """Return the label masks of posts, shape (n,), uint64; 0 is no label."""
        return self._posts.get_many(post_ids)

    def user_labels(self, user_ids: Int64Array) -> UInt64Array:
        """Return the label masks of accounts, shape (n,), uint64; 0 is no label."""
        return self._users.get_many(user_ids)

    def mask_of(self, names: Iterable[str]) -> np.uint64:
        """Return the mask that has the bits of these labels; labels never seen have none."""
        mask = 0
        for name in names:
            code = self._codes.labels.code(name)
            if 0 < code <= MAX_LABELS:
                mask |= 1 << code
        return np.uint64(mask)

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        for row in batch.rows_of(self.handles):
            payload = batch.events[row].payload
            if isinstance(payload, UserErased):
                self._users.remove(self._hasher.one(IdKind.USER, payload.user_id))
                continue
            if isinstance(payload, PostDeleted):
                self._posts.remove(self._hasher.one(IdKind.POST, payload.post_id))
                continue
            code = self._codes.labels.code(payload.label)
            if not 0 < code <= MAX_LABELS:
                continue
            if payload.post_id is not None:
                post_id = self._hasher.one(IdKind.POST, payload.post_id)
                self._posts.set(post_id, code, int(batch.appended_ms[row]), is_set=payload.is_set)
            else:
                user_id = self._hasher.one(IdKind.USER, payload.user_id)
                self._users.set(user_id, code, int(batch.appended_ms[row]), is_set=payload.is_set)

    def tick(self, watermark_ms: int) -> None:
        """Let go of the labels of posts that are gone; an account's hold until they are taken off."""
        self._posts.remove_before(watermark_ms - self._retention_ms)

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {**self._posts.arrays("posts"), **self._users.arrays("users")}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._posts.load("posts", arrays)
        self._users.load("users", arrays)


class _Masks:
    """Ids to masks: dense rows, the last moved into the gap of a removed one."""

    def __init__(self) -> None:
        self._table = IntTable()
        self._ids = np.zeros(16, dtype=np.int64)
        self._masks = np.zeros(16, dtype=np.uint64)
        self._changed_ms = np.zeros(16, dtype=np.int64)

    def get_many(self, ids: Int64Array) -> UInt64Array:
        rows = self._table.get_many(ids)
        return np.where(rows >= 0, self._masks[np.maximum(rows, 0)], np.uint64(0))

    def set(self, key: int, code: int, at_ms: int, *, is_set: bool) -> None:
        bit = np.uint64(1 << code)
        row = self._table.get(key)
        if row < 0:
            if not is_set:
                return
            row = len(self._table)
            if row == len(self._ids):
                self._ids = doubled(self._ids)
                self._masks = doubled(self._masks)
                self._changed_ms = doubled(self._changed_ms)
            self._table.put(key, row)
            self._ids[row] = key
        self._changed_ms[row] = max(int(self._changed_ms[row]), at_ms)
        if is_set:
            self._masks[row] |= bit
        else:
            self._masks[row] &= ~bit
            if self._masks[row] == 0:
                self.remove(key)

    def remove(self, key: int) -> None:
        row = self._table.get(key)
        if row < 0:
            return
        self._table.remove(key)
        last = len(self._table)
        if row != last:
            for column in (self._ids, self._masks, self._changed_ms):
                column[row] = column[last]
            self._table.put(int(self._ids[row]), row)
        for column in (self._ids, self._masks, self._changed_ms):
            column[last] = 0

    def remove_before(self, before_ms: int) -> None:
        rows = np.flatnonzero(self._changed_ms[: len(self._table)] < before_ms)
        for row in rows[::-1].tolist():  # from the end: a removal moves the last row, which stays, into the gap
            self.remove(int(self._ids[row]))

    def arrays(self, prefix: str) -> Arrays:
        return {**self._table.arrays(prefix), **self._columns(prefix)}

    def _columns(self, prefix: str) -> Arrays:
        return {
            f"{prefix}.ids": self._ids,
            f"{prefix}.masks": self._masks,
            f"{prefix}.changed_ms": self._changed_ms,
        }

    def load(self, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._table.load(prefix, arrays)
        self._ids = arrays[f"{prefix}.ids"]
        self._masks = arrays[f"{prefix}.masks"]
        self._changed_ms = arrays[f"{prefix}.changed_ms"]
