"""One post, several ways: itself and reposts of it."""

from __future__ import annotations

import numpy as np

from millrace.features.columns import CONTENT_ID, POST_ID
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.merge import first_appearances
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError


class SameContentFilter(Filter):
    """Keeps of a post and its reposts only the post itself, or else the repost that came first."""

    name = "same_content"
    reads = (POST_ID, CONTENT_ID)
    on_error = OnError.KEEP_ALL
    compares_rows = True

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return one row of each content."""
        content = batch[CONTENT_ID]
        firsts, places = first_appearances(content)
        itself = np.flatnonzero(content == batch[POST_ID])
        firsts[places[itself]] = itself
        keep = np.zeros(batch.n, dtype=np.bool_)
        keep[firsts] = True
        return keep
