"""Whom the viewer follows."""

from __future__ import annotations

from millrace.features.query_fields import FOLLOWING
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator
from millrace.stores.follow_graph import FollowGraph


class FollowsQueryHydrator(QueryHydrator):
    """Reads the viewer's follows from the follow graph."""

    name = "follows"
    writes = (FOLLOWING,)

    def __init__(self, graph: FollowGraph) -> None:
        self._graph = graph

    def hydrate(self, query: Query) -> FieldValues:
        """Return the followed accounts, in the order of following."""
        return {FOLLOWING: self._graph.following(query.viewer_id)}
