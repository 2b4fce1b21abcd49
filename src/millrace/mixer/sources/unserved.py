"""Posts that were ranked for the viewer a moment ago and did not come onto the page."""

from __future__ import annotations

from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.mixer.ranked_memory import RankedMemory
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Source

MAX_POSTS = Param("unserved.max_posts", 200, 0, 5_000, "most posts ranked for the page before and not on it")


class UnservedSource(Source):
    """Takes the best posts of the viewer's page before that were not on it (X's candidate cache).

    Ids alone: they are hydrated, filtered and ranked anew, like all others.
    """

    name = "unserved"
    cap = MAX_POSTS

    def __init__(self, memory: RankedMemory) -> None:
        self._memory = memory

    def retrieve(self, query: Query) -> CandidateBatch:
        """Return posts, the best of the page before first."""
        post_ids = self._memory.unserved(query.viewer_id, query.now_ms)
        return CandidateBatch({POST_ID: post_ids[: query.params.get_int(MAX_POSTS)]})

    def explain(self, query: Query, key: int) -> str:
        """Say what this process remembers of the page before."""
        n, ttl_s = len(self._memory.unserved(query.viewer_id, query.now_ms)), self._memory.ttl_ms / 1_000
        if not n:
            return f"this process has ranked nothing for you within {ttl_s:g} seconds"
        return f"it is not among the {n} best posts that your page before left out"
