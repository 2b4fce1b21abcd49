"""Posts that the viewer has had already. A repost is the post it repeats."""

from __future__ import annotations

from millrace.base.ids import Int64Array
from millrace.features.columns import CONTENT_ID, POST_ID
from millrace.features.query_fields import SEEN, SERVED
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.membership import is_either_member, is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError


class SeenFilter(Filter):
    """Drops posts that were on the viewer's screen within the seen window, also as reposts."""

    name = "seen"
    reads = (POST_ID, CONTENT_ID, SEEN)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are new to the viewer."""
        return ~is_either_member(batch[POST_ID], batch[CONTENT_ID], query[SEEN])

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say as what it was seen."""
        return f"the viewer has seen {_as_what(batch, row, query[SEEN])}"


class ServedFilter(Filter):
    """Drops posts that were sent to the viewer lately, also as reposts."""

    name = "served"
    reads = (POST_ID, CONTENT_ID, SERVED)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts were not sent."""
        return ~is_either_member(batch[POST_ID], batch[CONTENT_ID], query[SERVED])

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say as what it was sent."""
        return f"the viewer was sent {_as_what(batch, row, query[SERVED])} lately"


def _as_what(batch: CandidateBatch, row: int, had: Int64Array) -> str:
    return "it" if is_member(batch[POST_ID][row : row + 1], had)[0] else "the post that it reposts"
