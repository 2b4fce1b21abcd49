"""Whom and what the viewer blocks and mutes, and who blocks the viewer."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from millrace.features.query_fields import BLOCKED, BLOCKED_BY, KEYWORDS, MUTED
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator
from millrace.stores.relations import RelationStore

MAX_REMEMBERED: Final = 10_000
"""Viewers whose lists are kept for the case that the store fails."""


class RelationsQueryHydrator(QueryHydrator):
    """Reads blocks in both directions, muted accounts and muted keywords.

    If it fails, the lists last read for this viewer count. Without any there is nothing to judge by, so the filters
    that read them drop every candidate: their policy.
    """

    name = "relations"
    writes = (BLOCKED, BLOCKED_BY, MUTED, KEYWORDS)

    def __init__(self, relations: RelationStore) -> None:
        self._relations = relations
        self._last_known: OrderedDict[int, FieldValues] = OrderedDict()

    def hydrate(self, query: Query) -> FieldValues:
        """Return the three sets of accounts, and the keywords' hashes."""
        viewer_id = query.viewer_id
        found: FieldValues = {
            BLOCKED: self._relations.blocked(viewer_id),
            BLOCKED_BY: self._relations.blocked_by(viewer_id),
            MUTED: self._relations.muted(viewer_id),
            KEYWORDS: self._relations.muted_keywords(viewer_id),
        }
        self._last_known[viewer_id] = found
        self._last_known.move_to_end(viewer_id)
        if len(self._last_known) > MAX_REMEMBERED:
            self._last_known.popitem(last=False)
        return found

    def fallback(self, query: Query) -> FieldValues | None:
        """Return what was last read for this viewer by this process; None if nothing was."""
        return self._last_known.get(query.viewer_id)
