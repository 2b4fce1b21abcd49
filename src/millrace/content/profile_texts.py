"""`ProfileTexts`: what users say of themselves, as rows of the embedding bag that posts' texts have too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.base.ids import IdHasher, IdKind, Int64Array
from millrace.base.int_table import IntTable
from millrace.content.ngrams import MAX_TOKENS, UInt16Array, token_rows
from millrace.events.envelope import Payload
from millrace.events.user_events import ProfileUpdated, UserErased
from millrace.stores.fold import Arrays, EventBatch

_FIRST_ROWS = 64


class ProfileTexts:
    """Fold of users' biographies and named interests, as the last event that named either told them.

    Parameters
    ----------
    hasher
        Ids to inside ids.
    """

    name = "profile_texts"
    handles: tuple[type[Payload], ...] = (ProfileUpdated, UserErased)

    def __init__(self, hasher: IdHasher) -> None:
        self._hasher = hasher
        self._table = IntTable(2 * _FIRST_ROWS)
        self._bios = np.zeros((_FIRST_ROWS, MAX_TOKENS), dtype=np.uint16)
        self._n_rows = np.zeros(1, dtype=np.int64)

    @property
    def n_users(self) -> int:
        """How many users have said something."""
        return len(self._table)

    def tokens(self, user_ids: Int64Array) -> UInt16Array:
        """Return the rows of users' texts, shape (n, 64), uint16; zeros for those who said nothing."""
        rows = self._table.get_many(np.asarray(user_ids, dtype=np.int64))
        found = self._bios[np.maximum(rows, 0)]
        found[rows < 0] = 0
        return found

    def apply(self, batch: EventBatch) -> None:
        """Apply the events it handles, in log order."""
        said: list[tuple[int, str | None]] = []
        for row in batch.rows_of(self.handles):
            payload = batch.events[row].payload
            user = self._hasher.one(IdKind.USER, payload.user_id)
            if isinstance(payload, UserErased):
                said.append((user, None))
            elif payload.bio is not None or payload.interests is not None:
                said.append((user, " ".join((payload.bio or "", *(payload.interests or ())))))
        if not said:
            return
        tokens = token_rows([text or "" for _, text in said])
        for (user, text), rows in zip(said, tokens, strict=True):
            if text is None:
                self._forget(user)
            else:
                row = self._row(user)  # first: it may make room in another array
                self._bios[row] = rows

    def tick(self, watermark_ms: int) -> None:
        """Nothing runs out."""

    def arrays(self) -> Arrays:
        """Return the whole state; the arrays are the live ones."""
        return {**self._table.arrays("users"), "bios": self._bios, "n_rows": self._n_rows}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`."""
        self._table.load("users", arrays)
        self._bios = arrays["bios"]
        self._n_rows = arrays["n_rows"]

    def _row(self, user: int) -> int:
        row = self._table.get(user)
        if row >= 0:
            return row
        row = int(self._n_rows[0])
        if row == len(self._bios):
            self._bios = np.concatenate([self._bios, np.zeros_like(self._bios)])
        self._table.put(user, row)
        self._n_rows[0] += 1
        return row

    def _forget(self, user: int) -> None:
        row = self._table.get(user)
        if row >= 0:
            self._bios[row] = 0  # the row stays empty: erasures are rare
            self._table.remove(user)
