"""The page of a chronological timeline: the newest posts."""

from __future__ import annotations

import numpy as np

from millrace.features.columns import CREATED_MS, POST_ID
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import IntArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Selector


class NewestSelector(Selector):
    """Takes the newest posts, ties by id: time itself is the order, exact to the millisecond."""

    name = "newest"
    reads = (CREATED_MS, POST_ID)

    def select(self, query: Query, batch: CandidateBatch, n_wanted: int) -> IntArray:
        """Return rows newest first."""
        order: IntArray = np.lexsort((batch[POST_ID], -batch[CREATED_MS]))[:n_wanted]
        return order
