"""The page: best scores first, with a cap on posts per author."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.order import top_k
from millrace.base.params import Param
from millrace.features.columns import AUTHOR_ID, POST_ID, SCORE
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import IntArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Selector

MAX_PER_AUTHOR: Final = Param("page.max_per_author", 3, 1, 500, "most posts of one author on a page")


class AuthorCapSelector(Selector):
    """Takes the best scores, at most ``page.max_per_author`` of one author (of a repost: the reposter)."""

    name = "author_cap"
    reads = (SCORE, AUTHOR_ID)
    params = (MAX_PER_AUTHOR,)

    def select(self, query: Query, batch: CandidateBatch, n_wanted: int) -> IntArray:
        """Return rows best first.

        Only as many rows as needed are sorted and looked at: a few pages' worth, more if caps use them up.
        """
        most = query.params.get_int(MAX_PER_AUTHOR)
        scores, ids, authors = batch[SCORE], batch[POST_ID], batch[AUTHOR_ID]
        n_looked = 2 * n_wanted
        while True:
            order = top_k(scores, ids, n_looked)
            chosen = _capped(order, authors[order], most, n_wanted)
            if len(chosen) == n_wanted or n_looked >= batch.n:
                return np.array(chosen, dtype=np.intp)
            n_looked *= 4


def _capped(order: IntArray, authors: IntArray, most: int, n_wanted: int) -> list[int]:
    taken: dict[int, int] = {}
    chosen: list[int] = []
    for row, author in zip(order.tolist(), authors.tolist(), strict=True):
        n_taken = taken.get(author, 0)
        if n_taken < most:
            taken[author] = n_taken + 1
            chosen.append(row)
            if len(chosen) == n_wanted:
                break
    return chosen
