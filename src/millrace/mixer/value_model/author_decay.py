"""Author decay: an author's second, third ... post counts for less, so that no one fills the page."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import types

from millrace.base.ids import Int64Array
from millrace.base.int_table import slot_of
from millrace.base.kernels import njit
from millrace.base.params import Param
from millrace.features.columns import AUTHOR_FACTOR, AUTHOR_ID, POST_ID, SCORE
from millrace.mixer.value_model.steps import Multiplier
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query

DECAY: Final = Param(
    "author_decay.decay", 0.5, 0.0, 1.0, "an author's k-th post from 0 is multiplied by (1 - floor) x decay^k + floor"
)
FLOOR: Final = Param("author_decay.floor", 0.25, 0.0, 1.0, "what that factor comes down to")

_IDS: Final[Any] = types.Array(types.int64, 1, "C", readonly=True)
_SCORES: Final[Any] = types.Array(types.float32, 1, "C", readonly=True)


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
        places = places_by_author(batch[AUTHOR_ID], batch[SCORE], batch[POST_ID])
        decay, floor = query.params.get_float(DECAY), query.params.get_float(FLOOR)
        factor_by_place = (1 - floor) * decay ** np.arange(places.max(initial=0) + 1) + floor
        return factor_by_place.astype(np.float32)[places]


@njit([(_IDS, _SCORES, _IDS)], cache=True)
def _places(author_ids: Int64Array, scores: Float32Array, post_ids: Int64Array) -> Int64Array:
    n = len(author_ids)
    size = 16
    while size < 2 * n:
        size *= 2
    mask = np.int64(size - 1)
    newest = np.zeros(size, dtype=np.int64)  # by author: 1 + the row last taken in; 0 none
    before = np.zeros(n, dtype=np.int64)  # by row: 1 + the same author's row taken in before
    places = np.zeros(n, dtype=np.int64)
    for row in range(n):
        slot = slot_of(author_ids[row], mask)
        while newest[slot] != 0 and author_ids[newest[slot] - 1] != author_ids[row]:
            slot = (slot + 1) & mask
        score = scores[row] if np.isfinite(scores[row]) else -np.inf
        other = newest[slot] - 1
        while other >= 0:
            others = scores[other] if np.isfinite(scores[other]) else -np.inf
            if score > others or (score == others and post_ids[row] < post_ids[other]):
                places[other] += 1
            else:
                places[row] += 1
            other = before[other] - 1
        before[row] = newest[slot]
        newest[slot] = row + 1
    return places


def places_by_author(author_ids: Int64Array, scores: Float32Array, post_ids: Int64Array) -> Int64Array:
    """Return each post's place among its author's: 0 for the best, shape (n,), int64.

    Best first: score descending, non-finite last, ties by id. Nothing is sorted: each post is compared with those of
    its author, of whom the post store keeps some dozens at most.
    """
    return _places(np.ascontiguousarray(author_ids), np.ascontiguousarray(scores), np.ascontiguousarray(post_ids))


def places_by_author_reference(author_ids: Int64Array, scores: Float32Array, post_ids: Int64Array) -> Int64Array:
    """Return the same as `places_by_author`, counting one post after the other."""

    def key(row: int) -> tuple[float, int]:
        return (-float(scores[row]) if np.isfinite(scores[row]) else np.inf, int(post_ids[row]))

    n_by_author: dict[int, int] = {}
    places = np.zeros(len(author_ids), dtype=np.int64)
    for row in sorted(range(len(author_ids)), key=key):
        author_id = int(author_ids[row])
        places[row] = n_by_author.get(author_id, 0)
        n_by_author[author_id] = places[row] + 1
    return places
