"""Whom the viewer blocks and mutes, and who blocks the viewer."""

from __future__ import annotations

from millrace.features.query_fields import BLOCKED, BLOCKED_BY, MUTED
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator
from millrace.stores.relations import RelationStore


class RelationsQueryHydrator(QueryHydrator):
    """Reads blocks in both directions and muted accounts.

    If it fails there is no list to judge by, so the filters that read it drop every candidate: their policy.
    """

    name = "relations"
    writes = (BLOCKED, BLOCKED_BY, MUTED)

    def __init__(self, relations: RelationStore) -> None:
        self._relations = relations

    def hydrate(self, query: Query) -> FieldValues:
        """Return the three sets of accounts."""
        viewer_id = query.viewer_id
        return {
            BLOCKED: self._relations.blocked(viewer_id),
            BLOCKED_BY: self._relations.blocked_by(viewer_id),
            MUTED: self._relations.muted(viewer_id),
        }
