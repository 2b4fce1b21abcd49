"""What left for the viewer, in any worker."""

from __future__ import annotations

import asyncio

from millrace.features.query_fields import CLAIMED, FLOOR_MS
from millrace.pipeline.query import Query
from millrace.pipeline.stages import FieldValues, QueryHydrator
from millrace.stores.claims import Claimed, ClaimStore


class ClaimedQueryHydrator(QueryHydrator):
    """Reads the viewer's claims and floor: other workers' pages are known at once, before the log tells of them."""

    name = "claimed"
    writes = (CLAIMED, FLOOR_MS)

    def __init__(self, claims: ClaimStore) -> None:
        self._claims = claims

    def hydrate(self, query: Query) -> FieldValues:
        """Return the claims that hold, and the floor."""
        return _fields(self._claims.claimed(query.viewer_id, query.now_ms))


class RemoteClaimedQueryHydrator(QueryHydrator):
    """Reads the viewer's claims and floor over the network, in a thread."""

    name = "claimed"
    writes = (CLAIMED, FLOOR_MS)

    def __init__(self, claims: ClaimStore) -> None:
        self._claims = claims

    async def hydrate(self, query: Query) -> FieldValues:
        """Return the claims that hold, and the floor."""
        return _fields(await asyncio.to_thread(self._claims.claimed, query.viewer_id, query.now_ms))


def claimed_query_hydrator(claims: ClaimStore) -> QueryHydrator:
    """Return the hydrator for a store: one that waits only if the store does."""
    return RemoteClaimedQueryHydrator(claims) if claims.is_remote else ClaimedQueryHydrator(claims)


def _fields(found: Claimed) -> FieldValues:
    return {CLAIMED: found.content_ids, FLOOR_MS: found.floor_ms}
