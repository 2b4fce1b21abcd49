"""Claims: two requests of one viewer, in any two workers, never send the same post."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from millrace.features.columns import CONTENT_ID
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.column import BoolArray
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Filter, OnError
from millrace.stores.claims import ClaimStore

logger = logging.getLogger(__name__)


class ClaimFilter(Filter):
    """Drops posts of the page that another request of the viewer has claimed, and claims the others (late, last).

    The request is the owner of its claims, so a page that is refilled claims its first posts again for nothing.
    Claims are about content: a post and its reposts are one. If the claim store fails the page leaves unclaimed
    and the outcome says so; seen and served posts were dropped before from this process's own state. A request
    that ends without a page gives its claims back.
    """

    name = "claims"
    reads = (CONTENT_ID,)
    on_error = OnError.KEEP_ALL

    def __init__(self, claims: ClaimStore, *, ttl_ms: int, timeout_ms: float) -> None:
        self._claims = claims
        self._ttl_ms = ttl_ms
        self.timeout_ms = timeout_ms
        # A thread, for another process may hold the store for a moment; one, so that a request's claims are given
        # back after the last of them was made, even if the request did not wait for that.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="claims")

    def is_enabled(self, query: Query) -> bool:
        """Only for pages that leave."""
        return not query.is_dry_run

    async def keep(self, query: Query, batch: CandidateBatch) -> BoolArray:
        """Return which posts were granted."""
        claim = partial(
            self._claims.claim,
            query.viewer_id,
            batch[CONTENT_ID],
            owner=query.request_id,
            now_ms=query.now_ms,
            ttl_ms=self._ttl_ms,
        )
        return await asyncio.get_running_loop().run_in_executor(self._thread, claim)

    def abandon(self, query: Query) -> None:
        """Give the request's claims back, soon."""
        self._thread.submit(self._release, query.request_id)

    def _release(self, owner: str) -> None:
        try:
            self._claims.release(owner)
        except Exception:
            logger.exception("the claims of request %s could not be given back; they run out by themselves", owner)
