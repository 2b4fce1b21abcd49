"""What an author is: how many follow them, and whether the viewer and they follow each other."""

from __future__ import annotations

from millrace.features.columns import AUTHOR_FOLLOWERS, AUTHOR_ID, AUTHOR_REPUTATION, IS_MUTUAL
from millrace.features.query_fields import FOLLOWING
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import HydratedValues, Hydrator
from millrace.stores.follow_graph import FollowGraph


class AuthorHydrator(Hydrator):
    """Counts each author's followers in the follow graph."""

    name = "authors"
    reads = (AUTHOR_ID,)
    writes = (AUTHOR_FOLLOWERS,)

    def __init__(self, graph: FollowGraph) -> None:
        self._graph = graph

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the counts; 0 for authors nobody follows."""
        return {AUTHOR_FOLLOWERS: self._graph.n_followers(batch[AUTHOR_ID])}


class MutualHydrator(Hydrator):
    """Flags posts by accounts that the viewer follows and that follow the viewer."""

    name = "mutual"
    reads = (AUTHOR_ID, FOLLOWING)
    writes = (IS_MUTUAL,)

    def __init__(self, graph: FollowGraph) -> None:
        self._graph = graph

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the flag."""
        authors = batch[AUTHOR_ID]
        is_mutual = is_member(authors, query[FOLLOWING])
        if is_mutual.any():
            is_mutual &= self._graph.is_followed_by(query.viewer_id, authors)
        return {IS_MUTUAL: is_mutual}


class ReputationHydrator(Hydrator):
    """Writes the neutral reputation of every author: there is no store of reputations yet.

    The filter that reads it therefore drops nobody. A later store is read here, and nothing else changes.
    """

    name = "reputation"
    writes = (AUTHOR_REPUTATION,)

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the column's fill."""
        return {AUTHOR_REPUTATION: AUTHOR_REPUTATION.full(batch.n, {})}
