"""Claims: what left for the viewer, in any worker, never leaves again."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from millrace.features.columns import CONTENT_CREATED_MS, CONTENT_ID
from millrace.features.query_fields import CLAIMED, FLOOR_MS
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.membership import is_member
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError
from millrace.stores.claims import ClaimStore

logger = logging.getLogger(__name__)


class ClaimedFilter(Filter):
    """Drops posts that left for the viewer within the seen window, also as reposts.

    Quality, not safety: it saves refills. What it lets pass is refused by the late filter `claims`.
    """

    name = "claimed"
    reads = (CONTENT_ID, CLAIMED)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which contents are not claimed."""
        return ~is_member(batch[CONTENT_ID], query[CLAIMED])


class FloorFilter(Filter):
    """Drops posts older than the viewer's floor: so many left for the viewer that older ones are not kept track of.

    Quality, not safety, as `ClaimedFilter`.
    """

    name = "floor"
    reads = (CONTENT_CREATED_MS, FLOOR_MS)
    on_error = OnError.KEEP_ALL

    def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which contents were published at or after the floor; those of unknown age were not."""
        return batch[CONTENT_CREATED_MS] >= query[FLOOR_MS]


class ClaimFilter(Filter):
    """Drops posts of the page that another request of the viewer has claimed, and claims the others (late, last).

    The request is the owner of its claims and claims its whole page in each round: its first posts again for nothing,
    and what left the page in a refill is given back. Claims are about content: a post and its reposts are one. If the
    claim store does not answer nothing leaves, and the service refuses the request. A request that ends without a
    page gives its claims back.
    """

    name = "claims"
    reads = (CONTENT_ID, CONTENT_CREATED_MS)
    on_error = OnError.DROP_ALL

    def __init__(self, claims: ClaimStore, *, ttl_ms: int, max_claims: int, timeout_ms: float) -> None:
        self._claims = claims
        self._ttl_ms = ttl_ms
        self._max_claims = max_claims
        self.timeout_ms = timeout_ms
        # A thread, for a claim waits for the disk; one, so that a request's claims are given back after the last of
        # them was made, even if the request did not wait for that.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="claims")

    def is_enabled(self, query: Query) -> bool:
        """Only for pages that leave."""
        return not query.is_dry_run

    async def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts were granted."""
        if batch.n == 0:
            return np.zeros(0, dtype=np.bool_)
        claim = partial(
            self._claims.claim,
            query.viewer_id,
            batch[CONTENT_ID],
            batch[CONTENT_CREATED_MS],
            owner=query.request_id,
            now_ms=query.now_ms,
            ttl_ms=self._ttl_ms,
            max_claims=self._max_claims,
        )
        return await asyncio.get_running_loop().run_in_executor(self._thread, claim)

    async def foresee(self, query: Query, reserve: CandidateBatch) -> BoolArray | None:
        """Return which contents nobody has claimed by now: requests that meet choose the same ones."""
        look = partial(self._claims.claimed, query.viewer_id, query.now_ms)
        try:
            if self._claims.is_remote:
                found = await asyncio.wait_for(asyncio.to_thread(look), self.timeout_ms / 1000)
            else:
                found = look()
        except Exception:
            logger.exception("what others have claimed could not be read; the refill chooses without it")
            return None
        is_young = reserve[CONTENT_CREATED_MS] >= found.floor_ms
        keep: BoolArray = is_young & ~is_member(reserve[CONTENT_ID], found.content_ids)
        return keep

    def abandon(self, query: Query) -> None:
        """Give the request's claims back, soon."""
        self._thread.submit(self._release, query.viewer_id, query.request_id)

    async def settle(self) -> None:
        """Return once all claims made or given back so far have been."""
        await asyncio.get_running_loop().run_in_executor(self._thread, int)

    def _release(self, viewer_id: int, owner: str) -> None:
        try:
            self._claims.release(viewer_id, owner)
        except Exception:
            logger.exception("the claims of request %s could not be given back; they run out by themselves", owner)


class ClaimShownFilter(ClaimFilter):
    """Claims the posts of a page that may leave whatever is claimed, and drops none (late, last).

    For chronological timelines: what is read there is not recommended afterwards, in any worker, at once; what left
    elsewhere is read there all the same. If the claim store does not answer the page leaves without: until its
    `Served` event is folded, what it shows may be recommended once more.

    Nothing is given back: of two requests that meet on a post one holds the claim, and both show the post.
    """

    name = "claim_shown"
    on_error = OnError.KEEP_ALL

    async def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return that all may stay, once they are claimed."""
        await super().keep(query, batch)
        return np.ones(batch.n, dtype=np.bool_)

    async def foresee(self, query: Query, reserve: CandidateBatch) -> BoolArray | None:
        """Foresee nothing."""
        return None

    def abandon(self, query: Query) -> None:
        """Keep the request's claims."""
