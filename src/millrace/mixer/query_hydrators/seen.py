"""What the viewer has seen, and what was sent lately."""

from __future__ import annotations

from millrace.features.query_fields import SEEN, SERVED
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator
from millrace.stores.seen import SeenStore


class SeenQueryHydrator(QueryHydrator):
    """Reads the posts that were on the viewer's screen within the seen window."""

    name = "seen"
    writes = (SEEN,)

    def __init__(self, seen: SeenStore) -> None:
        self._seen = seen

    def hydrate(self, query: Query) -> FieldValues:
        """Return the seen posts, expired ones left out by the request's clock."""
        return {SEEN: self._seen.seen(query.viewer_id, query.now_ms)}


class ServedQueryHydrator(QueryHydrator):
    """Reads the posts that were sent to the viewer lately, seen or not."""

    name = "served"
    writes = (SERVED,)

    def __init__(self, seen: SeenStore) -> None:
        self._seen = seen

    def hydrate(self, query: Query) -> FieldValues:
        """Return the served posts, expired ones left out by the request's clock."""
        return {SERVED: self._seen.served(query.viewer_id, query.now_ms)}
