"""The rules about what a post carries, once more: the page shows more of it than the post store knew."""

from __future__ import annotations

from typing import cast

import numpy as np

from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError


class CarriedFilter(Filter):
    """Drops posts of the page that earlier filters would have dropped, had they known whose post it carries (late).

    The author and the sensitive flag of a parent whose row is gone are known by its content alone, which is read for
    the page only. Where there is no content either the page shows nothing of the parent: such posts stay.

    Parameters
    ----------
    rules
        The filters to ask again; none that waits.
    """

    name = "carried"
    on_error = OnError.DROP_ALL

    def __init__(self, *rules: Filter) -> None:
        self._rules = rules
        self.reads = tuple(dict.fromkeys(thing for rule in rules for thing in rule.reads))

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts pass all rules that apply to the viewer."""
        keep = np.ones(batch.n, dtype=np.bool_)
        for rule in self._rules:
            if rule.is_enabled(query):
                keep &= cast("BoolArray", rule.keep(query, batch))
        return keep

    def explain(self, query: Query, batch: CandidateBatch, row: int) -> str:
        """Say what it is about: what was found out late is not kept."""
        return "the post that it carries is by somebody, or of a kind, that the viewer is not shown"
