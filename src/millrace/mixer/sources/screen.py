"""`Screen`: what the pipeline's own filters would drop, asked while a source still looks for posts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from millrace.base.ids import Int64Array
from millrace.base.params import Param
from millrace.features.columns import POST_ID
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query, QueryField
from millrace.pipeline.stages import Filter, Hydrator


class Screen:
    """Hydrators and filters of the pipeline, asked beforehand: what they drop must not take one of a source's places.

    The same stages, so that the two never disagree. All are plain functions, and no filter compares rows.

    Parameters
    ----------
    hydrators, filters
        In their order; what a filter reads of candidates a hydrator writes.

    Attributes
    ----------
    reads, params
        What a source that asks them reads as well.
    """

    def __init__(self, hydrators: Sequence[Hydrator], filters: Sequence[Filter]) -> None:
        self._hydrators = tuple(hydrators)
        self._filters = tuple(filters)
        stages = (*self._hydrators, *self._filters)
        reads = (thing for stage in stages for thing in stage.reads if isinstance(thing, QueryField))
        self.reads: tuple[QueryField[Any], ...] = tuple(dict.fromkeys(reads))
        self.params: tuple[Param, ...] = tuple(dict.fromkeys(param for stage in stages for param in stage.params))

    def keep(self, query: Query, post_ids: Int64Array) -> BoolArray:
        """Return which posts pass all filters, shape (n,), bool."""
        kept = np.ones(len(post_ids), dtype=np.bool_)
        if not len(post_ids):
            return kept
        batch = self._hydrated(query, post_ids)
        for stage in self._filters:
            if stage.is_enabled(query):
                kept &= cast("BoolArray", stage.keep(query, batch))
        return kept

    def why_not(self, query: Query, key: int) -> str:
        """Return why the first filter that drops a post does so; empty if none does."""
        batch = self._hydrated(query, np.array([key], dtype=np.int64))
        for stage in self._filters:
            if stage.is_enabled(query) and not cast("BoolArray", stage.keep(query, batch))[0]:
                return f"{stage.name} would drop it: {stage.explain(query, batch, 0)}"
        return ""

    def _hydrated(self, query: Query, post_ids: Int64Array) -> CandidateBatch:
        batch = CandidateBatch({POST_ID: post_ids})
        for stage in self._hydrators:
            batch = batch.with_checked_columns(cast("Any", stage.hydrate(query, batch)))
        return batch
