"""Posts that the viewer has had already. A repost is the post it repeats."""

from __future__ import annotations

from millrace.features.columns import CONTENT_ID, POST_ID
from millrace.features.query_fields import SEEN, SERVED
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.membership import is_either_member
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


class ServedFilter(Filter):
    """Drops posts that were sent to the viewer lately, also as reposts."""

    name = "served"
    reads = (POST_ID, CONTENT_ID, SERVED)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts were not sent."""
        return ~is_either_member(batch[POST_ID], batch[CONTENT_ID], query[SERVED])
