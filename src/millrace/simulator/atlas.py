"""`Atlas`: which of the world's people and posts an id means; outside ids are the feed's, rows are the world's."""

from __future__ import annotations

import numpy as np

from millrace.base.ids import IdKind, hash_id
from millrace.simulator.draws import Int64Array
from millrace.simulator.narrator import Narrator


class Atlas:
    """Maps ids to rows; posts are added as they are written.

    Parameters
    ----------
    narrator
        Knows everybody's outside ids.
    n_users
        People.
    """

    def __init__(self, narrator: Narrator, n_users: int) -> None:
        self._narrator = narrator
        self.user_by_inside = {hash_id(IdKind.USER, narrator.user_id(user)): user for user in range(n_users)}
        self._row_by_outside: dict[str, int] = {}
        self._insides: list[int] = []
        self._sorted: Int64Array = np.empty(0, dtype=np.int64)
        self._order: Int64Array = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._insides)

    def extend(self, n_posts: int) -> None:
        """Take in the posts that were written since."""
        first = len(self._insides)
        if n_posts == first:
            return
        for row in range(first, n_posts):
            outside = self._narrator.post_id(row)
            self._row_by_outside[outside] = row
            self._insides.append(hash_id(IdKind.POST, outside))
        insides = np.array(self._insides, dtype=np.int64)
        self._order = np.argsort(insides, kind="stable")
        self._sorted = insides[self._order]

    def row(self, outside: str) -> int:
        """Return a post's row; -1 for one that is not of this world."""
        return self._row_by_outside.get(outside, -1)

    def rows(self, insides: Int64Array) -> Int64Array:
        """Return posts' rows, shape (n,); -1 for those that are not of this world."""
        if not len(self._sorted):
            return np.full(len(insides), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._sorted, insides), len(self._sorted) - 1)
        return np.where(self._sorted[at] == insides, self._order[at], -1)

    def insides(self, rows: Int64Array) -> Int64Array:
        """Return posts' inside ids, shape (n,)."""
        return np.array([self._insides[row] for row in rows.tolist()], dtype=np.int64)
