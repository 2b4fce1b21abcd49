"""Author decay: an author's second, third ... post counts for less, so that no one fills the page."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.features.columns import AUTHOR_FACTOR, AUTHOR_ID, POST_ID, SCORE
from millrace.mixer.value_model.steps import Multiplier
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import IntArray
from millrace.pipeline.query import Query

DECAY: Final = Param(
    "author_decay.decay", 0.5, 0.0, 1.0, "an author's k-th post from 0 is multiplied by (1 - floor) x decay^k + floor"
)
FLOOR: Final = Param("author_decay.floor", 0.25, 0.0, 1.0, "what that factor comes down to")


class AuthorDecay(Multiplier):
    """Multiplies an author's k-th post by score, from 0, by (1 - floor) x decay^k + floor.

    One pass: places are those of the scores before it. Of a repost the author is the reposter. X's rule and values.
    """

    name = "author_decay"
    reads = (POST_ID, AUTHOR_ID, SCORE)
    writes = (AUTHOR_FACTOR, SCORE)
    params = (DECAY, FLOOR)
    amount_column = AUTHOR_FACTOR

    def is_enabled(self, query: Query) -> bool:
        """Only where there is any decay."""
        return query.params.get_float(DECAY) < 1 and query.params.get_float(FLOOR) < 1

    def amount(self, query: Query, batch: CandidateBatch) -> Float32Array:
        """Return the factor: 1, 0.625, 0.4375 ... for the posts of one author."""
        floor = query.params.get_float(FLOOR)
        places = places_by_author(batch[AUTHOR_ID], batch[SCORE], batch[POST_ID])
        return ((1 - floor) * query.params.get_float(DECAY) ** places + floor).astype(np.float32)


def places_by_author(author_ids: Int64Array, scores: Float32Array, post_ids: Int64Array) -> IntArray:
    """Return each post's place among its author's: 0 for the best, shape (n,).

    Best first: score descending, non-finite last, ties by id. Only posts of authors who have several are sorted.
    """
    places = np.zeros(len(author_ids), dtype=np.intp)
    by_author = np.argsort(author_ids)
    same_as_next = np.diff(author_ids[by_author]) == 0
    is_shared = np.zeros(len(author_ids), dtype=np.bool_)
    is_shared[:-1] |= same_as_next
    is_shared[1:] |= same_as_next
    rows = by_author[is_shared]
    if len(rows):
        usable = np.where(np.isfinite(scores[rows]), scores[rows], -np.inf)
        rows = rows[np.lexsort((post_ids[rows], -usable, author_ids[rows]))]
        count = np.arange(len(rows))
        is_first = np.ones(len(rows), dtype=np.bool_)
        is_first[1:] = np.diff(author_ids[rows]) != 0
        places[rows] = count - np.maximum.accumulate(np.where(is_first, count, 0))
    return places


def places_by_author_reference(author_ids: Int64Array, scores: Float32Array, post_ids: Int64Array) -> IntArray:
    """Return the same as `places_by_author`, counting one post after the other."""

    def key(row: int) -> tuple[float, int]:
        return (-float(scores[row]) if np.isfinite(scores[row]) else np.inf, int(post_ids[row]))

    n_by_author: dict[int, int] = {}
    places = np.zeros(len(author_ids), dtype=np.intp)
    for row in sorted(range(len(author_ids)), key=key):
        author_id = int(author_ids[row])
        places[row] = n_by_author.get(author_id, 0)
        n_by_author[author_id] = places[row] + 1
    return places
