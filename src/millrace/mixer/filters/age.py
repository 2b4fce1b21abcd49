"""Posts that are too old."""

from __future__ import annotations

from typing import Final

from millrace.base.params import Param
from millrace.features.columns import CREATED_MS, HAS_POST
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError

_HOUR_MS: Final = 3_600_000

MAX_AGE_H: Final = Param("age.max_age_h", 48.0, 0.1, 24.0 * 365, "how old a post may be, hours")


def max_age_ms(query: Query) -> int:
    """Return how old a post may be in this request, in milliseconds."""
    return int(query.params.get_float(MAX_AGE_H) * _HOUR_MS)


class AgeFilter(Filter):
    """Drops posts older than ``age.max_age_h``, by the request's clock.

    What the post store does not have has no age: that is for the filters of what is not there.
    """

    name = "age"
    reads = (CREATED_MS, HAS_POST)
    params = (MAX_AGE_H,)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are young enough."""
        return (batch[CREATED_MS] >= query.now_ms - max_age_ms(query)) | ~batch[HAS_POST]

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say how old the post is."""
        age_h = (query.now_ms - int(batch[CREATED_MS][row])) / _HOUR_MS
        return f"{age_h:.1f} hours old; the limit is {query.params.get_float(MAX_AGE_H):g}"
