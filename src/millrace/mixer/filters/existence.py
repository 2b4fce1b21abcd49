"""Posts that are not there any more."""

from __future__ import annotations

from millrace.features.columns import HAS_CONTENT, HAS_POST, IS_DELETED, IS_PARENT_DELETED, KIND
from millrace.mixer.kinds import REPOST
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError


class HydrationFilter(Filter):
    """Drops posts that the post store does not have: expired, pushed out by newer ones, or never heard of.

    Deleted ones are not there either; they are left to `DeletedFilter`, which knows why.
    """

    name = "hydration"
    reads = (HAS_POST, IS_DELETED)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are there, or known to be deleted."""
        return batch[HAS_POST] | batch[IS_DELETED]

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say what is missing."""
        return "the post store has no such post: it has expired, was pushed out by newer ones, or never came in"


class DeletedFilter(Filter):
    """Drops posts that their authors or moderators deleted."""

    name = "deleted"
    reads = (IS_DELETED,)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts were not deleted."""
        return ~batch[IS_DELETED]


class DeletedParentFilter(Filter):
    """Drops reposts of deleted posts."""

    name = "deleted_parent"
    reads = (IS_PARENT_DELETED, KIND)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are no reposts, or reposts of what exists."""
        keep: BoolArray = ~batch[IS_PARENT_DELETED] | (batch[KIND] != REPOST)
        return keep


class ContentFilter(Filter):
    """Drops posts of the page that have no content to show, and reposts of such posts (late)."""

    name = "content"
    reads = (HAS_CONTENT,)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts can be shown."""
        return batch[HAS_CONTENT]
