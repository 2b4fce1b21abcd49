"""What a chronological timeline does not show again while the viewer scrolls."""

from __future__ import annotations

import numpy as np

from millrace.features.columns import CONTENT_ID, CREATED_MS, POST_ID
from millrace.features.query_fields import BOUNDARY
from millrace.mixer.sources.timeline import comes_after
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.merge import first_appearances
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError


class FirstAppearanceFilter(Filter):
    """Keeps of a post and its reposts the newest, which a viewer who scrolls down meets first."""

    name = "first_appearance"
    reads = (CONTENT_ID,)
    on_error = OnError.KEEP_ALL
    compares_rows = True

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return one row of each content; candidates stand newest first."""
        firsts, _ = first_appearances(batch[CONTENT_ID])
        keep = np.zeros(batch.n, dtype=np.bool_)
        keep[firsts] = True
        return keep


class BehindFilter(Filter):
    """Drops posts that lie behind the viewer: they were on an earlier page of the scroll."""

    name = "behind"
    reads = (CREATED_MS, POST_ID, BOUNDARY)
    on_error = OnError.DROP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts come after the boundary."""
        return comes_after(query[BOUNDARY], batch[CREATED_MS], batch[POST_ID])
