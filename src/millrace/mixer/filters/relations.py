"""Blocks and mutes. Safety: what cannot be checked is not shown."""

from __future__ import annotations

import numpy as np

from millrace.features.columns import AUTHOR_ID, PARENT_AUTHOR_ID
from millrace.features.query_fields import BLOCKED, BLOCKED_BY, MUTED
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError


class BlockedAuthorFilter(Filter):
    """Drops posts by accounts that the viewer blocks."""

    name = "blocked_author"
    reads = (AUTHOR_ID, BLOCKED)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which authors the viewer does not block."""
        return ~is_member(batch[AUTHOR_ID], query[BLOCKED])


class BlockedByAuthorFilter(Filter):
    """Drops posts by accounts that block the viewer."""

    name = "blocked_by_author"
    reads = (AUTHOR_ID, BLOCKED_BY)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which authors do not block the viewer."""
        return ~is_member(batch[AUTHOR_ID], query[BLOCKED_BY])


class MutedAuthorFilter(Filter):
    """Drops posts by accounts that the viewer mutes."""

    name = "muted_author"
    reads = (AUTHOR_ID, MUTED)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which authors the viewer does not mute."""
        return ~is_member(batch[AUTHOR_ID], query[MUTED])


class BlockedParentFilter(Filter):
    """Drops reposts, quotes and replies whose other author the viewer blocks or is blocked by."""

    name = "blocked_parent"
    reads = (PARENT_AUTHOR_ID, BLOCKED, BLOCKED_BY)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts carry nobody who is blocked, in either direction."""
        return ~is_member(batch[PARENT_AUTHOR_ID], np.concatenate((query[BLOCKED], query[BLOCKED_BY])))

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say in which direction the block goes."""
        is_blocked = is_member(batch[PARENT_AUTHOR_ID][row : row + 1], query[BLOCKED])[0]
        return f"it carries a post by an account that {'the viewer blocks' if is_blocked else 'blocks the viewer'}"


class MutedParentFilter(Filter):
    """Drops reposts, quotes and replies whose other author the viewer mutes."""

    name = "muted_parent"
    reads = (PARENT_AUTHOR_ID, MUTED)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts carry nobody whom the viewer mutes."""
        return ~is_member(batch[PARENT_AUTHOR_ID], query[MUTED])
