"""What a post is to this viewer: in-network or not, and how they got on with its author before."""

from __future__ import annotations

from millrace.features.columns import AUTHOR_AFFINITY, AUTHOR_ID, IS_IN_NETWORK
from millrace.features.query_fields import FOLLOWING
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import HydratedValues, Hydrator
from millrace.stores.histories import Histories


class InNetworkHydrator(Hydrator):
    """Flags posts by the viewer and by accounts the viewer follows."""

    name = "in_network"
    reads = (AUTHOR_ID, FOLLOWING)
    writes = (IS_IN_NETWORK,)

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the flag."""
        authors = batch[AUTHOR_ID]
        return {IS_IN_NETWORK: is_member(authors, query[FOLLOWING]) | (authors == query.viewer_id)}


class AffinityHydrator(Hydrator):
    """Reads the viewer's decayed positive actions on each author's posts."""

    name = "affinity"
    reads = (AUTHOR_ID,)
    writes = (AUTHOR_AFFINITY,)

    def __init__(self, histories: Histories) -> None:
        self._histories = histories

    def hydrate(self, query: Query, batch: CandidateBatch) -> HydratedValues:
        """Return the affinity to each candidate's author."""
        return {AUTHOR_AFFINITY: self._histories.author_affinity(query.viewer_id, batch[AUTHOR_ID], query.now_ms)}
