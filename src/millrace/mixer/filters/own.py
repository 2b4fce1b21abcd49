"""The viewer's own posts."""

from __future__ import annotations

from millrace.features.columns import AUTHOR_ID, KIND, PARENT_AUTHOR_ID
from millrace.mixer.kinds import REPOST
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError


class OwnPostsFilter(Filter):
    """Drops the viewer's own posts, and reposts of them by others."""

    name = "own_posts"
    reads = (AUTHOR_ID, PARENT_AUTHOR_ID, KIND)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts are others'."""
        is_own_reposted = (batch[PARENT_AUTHOR_ID] == query.viewer_id) & (batch[KIND] == REPOST)
        keep: BoolArray = (batch[AUTHOR_ID] != query.viewer_id) & ~is_own_reposted
        return keep

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say which of the two it is."""
        is_own = int(batch[AUTHOR_ID][row]) == query.viewer_id
        return "the viewer's own post" if is_own else "a repost of the viewer's own post"
