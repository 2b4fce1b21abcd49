"""Keeps what a page left out for the viewer's next one."""

from __future__ import annotations

import numpy as np

from millrace.base.order import top_k
from millrace.features.columns import POST_ID, SCORE
from millrace.mixer.ranked_memory import RankedMemory
from millrace.pipeline.query import Query
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import SideEffect


class RememberRanked(SideEffect):
    """Remembers the best-ranked posts that are not on the page; the source `unserved` returns them.

    Parameters
    ----------
    memory
        Shared with the source.
    """

    name = "remember_ranked"
    reads = (POST_ID, SCORE)

    def __init__(self, memory: RankedMemory) -> None:
        self._memory = memory

    async def run(self, query: Query, result: PipelineResult) -> None:
        """Take the best of the others, posts that a late filter dropped left out."""
        is_left = result.dropped_by[result.ranked_rows] == 0
        is_left &= ~np.isin(result.ranked_rows, result.slate_rows)
        rows = np.flatnonzero(is_left)
        post_ids, scores = result.ranked[POST_ID][rows], result.ranked[SCORE][rows]
        order = top_k(scores, post_ids, self._memory.max_posts)
        self._memory.remember(query.viewer_id, query.now_ms, post_ids[order])
