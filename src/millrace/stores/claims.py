"""Claims, kept pages and limits: the little that must be atomic across workers, kept outside the replicas.

A request claims the contents of its page before the page leaves, so that no other request of the viewer, in any
worker, ever sends one of them again. Claims are durable and hold for days; what does not fit any more is covered by
the viewer's *floor*: contents published before it are never granted again. Pages are kept for minutes, so that asking
twice for one page gives one page. Limits count in the same store, so that a client cannot have one limit per worker.

Here: the `ClaimStore` contract and `MemoryClaims` (one process). `millrace.stores.sqlite_claims` serves all processes
of one machine (the default), `millrace.stores.redis_claims` several machines; what a claim changes is decided in
`millrace.stores.claim_sets`. Shared suite: `millrace.testing.claims_contract`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from millrace.base.ids import Int64Array
from millrace.stores.claim_sets import NO_CLAIMS, Asked, decide, live_claims, without_owner

BoolArray = npt.NDArray[np.bool_]

SWEEP_EVERY_MS: Final = 60_000

_ROUNDING_MS: Final = 1e-3
"""Sums of fractions of a millisecond are off by less."""


class Claimed(NamedTuple):
    """What left for a viewer.

    Attributes
    ----------
    content_ids
        Contents that are claimed, shape (n,), int64, in no order.
    floor_ms
        Contents published before this are never granted again; 0 as long as there is no such time.
    """

    content_ids: Int64Array
    floor_ms: int


class ClaimStore(Protocol):
    """Claims of (viewer, content) by owners, kept pages, and sliding limits; every call is atomic across all its users.

    Time is the caller's (``now_ms``), so that virtual time works. Safe to call from several threads.

    Attributes
    ----------
    is_remote
        Whether reads wait for a network, so that a caller with an event loop reads in a thread.
    """

    is_remote: bool

    def claimed(self, viewer_id: int, now_ms: int) -> Claimed:
        """Return what is claimed for a viewer, by whomever, and the viewer's floor."""

    def claim(
        self,
        viewer_id: int,
        content_ids: Int64Array,
        created_ms: Int64Array,
        *,
        owner: str,
        now_ms: int,
        ttl_ms: int,
        max_claims: int,
    ) -> BoolArray:
        """Claim a whole page for one viewer and return what was granted, shape (n,), bool; durable on return.

        Refused is what another owner's claim holds, what was published before the viewer's floor, and the second of
        two equal ids. An owner's own claims are granted again; those that it does not ask for again are given back,
        because they are not on its page any more. A claim holds until ``now_ms + ttl_ms``.

        Where more than ``max_claims`` are held afterwards, those published first are let go, and the floor rises to
        the millisecond after the newest of them (which lets go of what was published in the same millisecond too).
        It never falls.

        Parameters
        ----------
        viewer_id, content_ids
            For whom, and what; ids are not 0.
        created_ms
            When each content was published; 0 where that is not known. Such a one is below every floor, and is kept
            as if it were published now: that is the latest it can have been.
        owner, now_ms, ttl_ms, max_claims
            Whose claims, when, for how long, and how many a viewer may have.
        """

    def release(self, viewer_id: int, owner: str) -> None:
        """Give back all claims of an owner: its page never left. The floor stays where it is."""

    def keep_page(self, viewer_id: int, key: str, page: bytes, *, now_ms: int, ttl_ms: int) -> bytes:
        """Keep a page until ``now_ms + ttl_ms`` and return the one that is kept: the first one under a key wins."""

    def page(self, viewer_id: int, key: str, now_ms: int) -> bytes | None:
        """Return the page that is kept under a key; None if there is none."""

    def take(self, key: str, limit: int, window_ms: int, now_ms: int) -> bool:
        """Take one of ``limit`` in the sliding window of ``window_ms`` that ends now; False if none is left.

        Exact: no window of that length ever holds more than ``limit`` grants. A refused take costs nothing.
        """

    def spend(self, key: str, n: int, *, per_s: float, burst: int, now_ms: int) -> int:
        """Spend ``n`` of a budget that fills by ``per_s`` a second up to ``burst``; return 0, or the wait in ms.

        All or nothing: a refused call costs nothing, and would be granted after the wait if nobody else spends
        meanwhile. The generic cell rate algorithm (ITU-T I.371), see `spent`: one number a key, however many events.

        Parameters
        ----------
        key
            Whose budget.
        n
            At most ``burst``: more is never there at once.
        per_s, burst
            How fast it fills, above 0, and how much it holds.
        now_ms
            The same clock for all who share the store.
        """

    def forget(self, user_id: int) -> None:
        """Erase a user: claims, floor and kept pages; and everybody's kept pages, for the user may be on them."""

    def close(self) -> None:
        """Release what the store holds open; what it keeps stays until it runs out."""


def spent(full_ms: float, n: int, *, per_s: float, burst: int, now_ms: int) -> tuple[int, float]:
    """Return how long a spender must wait, 0 if not at all, and when the budget is full again then; see `spend`.

    ``full_ms`` is when the budget would be full if nothing were spent: what it lacks of ``burst`` now.
    """
    after_ms = max(full_ms, float(now_ms)) + n * 1000.0 / per_s
    wait_ms = after_ms - now_ms - burst * 1000.0 / per_s
    return (0, after_ms) if wait_ms <= _ROUNDING_MS else (math.ceil(wait_ms), full_ms)


class MemoryClaims:
    """Claims within one process: for tests, simulations and single-process servers."""

    is_remote = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[int, Int64Array] = {}
        self._floors: dict[int, int] = {}
        self._pages: dict[tuple[int, str], tuple[int, bytes]] = {}
        self._grants: dict[str, deque[int]] = {}
        self._full_ms: dict[str, float] = {}
        self._next_sweep_ms = self._next_budgets_sweep_ms = 0

    def claimed(self, viewer_id: int, now_ms: int) -> Claimed:
        """See `ClaimStore.claimed`."""
        with self._lock:
            held, floor_ms = self._claims.get(viewer_id, NO_CLAIMS), self._floors.get(viewer_id, 0)
        return Claimed(live_claims(held, floor_ms, now_ms)[:, 0].copy(), floor_ms)

    def claim(
        self,
        viewer_id: int,
        content_ids: Int64Array,
        created_ms: Int64Array,
        *,
        owner: str,
        now_ms: int,
        ttl_ms: int,
        max_claims: int,
    ) -> BoolArray:
        """See `ClaimStore.claim`."""
        asked = Asked(content_ids, created_ms, owner, now_ms, now_ms + ttl_ms, max_claims)
        with self._lock:
            self._sweep(now_ms)
            decision = decide(self._claims.get(viewer_id, NO_CLAIMS), self._floors.get(viewer_id, 0), asked)
            self._claims[viewer_id] = decision.held
            if decision.floor_ms:
                self._floors[viewer_id] = decision.floor_ms
        return decision.granted

    def release(self, viewer_id: int, owner: str) -> None:
        """See `ClaimStore.release`."""
        with self._lock:
            self._claims[viewer_id] = without_owner(self._claims.get(viewer_id, NO_CLAIMS), owner)

    def keep_page(self, viewer_id: int, key: str, page: bytes, *, now_ms: int, ttl_ms: int) -> bytes:
        """See `ClaimStore.keep_page`."""
        with self._lock:
            expires_ms, kept = self._pages.get((viewer_id, key), (now_ms, b""))
            if expires_ms > now_ms:
                return kept
            self._pages[viewer_id, key] = (now_ms + ttl_ms, page)
        return page

    def page(self, viewer_id: int, key: str, now_ms: int) -> bytes | None:
        """See `ClaimStore.page`."""
        with self._lock:
            expires_ms, kept = self._pages.get((viewer_id, key), (now_ms, b""))
        return kept if expires_ms > now_ms else None

    def take(self, key: str, limit: int, window_ms: int, now_ms: int) -> bool:
        """See `ClaimStore.take`."""
        with self._lock:
            grants = self._grants.setdefault(key, deque())
            while grants and grants[0] <= now_ms - window_ms:
                grants.popleft()
            if len(grants) >= limit:
                return False
            grants.append(now_ms)
        return True

    def spend(self, key: str, n: int, *, per_s: float, burst: int, now_ms: int) -> int:
        """See `ClaimStore.spend`."""
        with self._lock:
            if now_ms >= self._next_budgets_sweep_ms:
                self._next_budgets_sweep_ms = now_ms + SWEEP_EVERY_MS
                self._full_ms = {name: full_ms for name, full_ms in self._full_ms.items() if full_ms > now_ms}
            wait_ms, self._full_ms[key] = spent(self._full_ms.get(key, 0.0), n, per_s=per_s, burst=burst, now_ms=now_ms)
        return wait_ms

    def forget(self, user_id: int) -> None:
        """See `ClaimStore.forget`."""
        with self._lock:
            self._claims.pop(user_id, None)
            self._floors.pop(user_id, None)
            self._pages.clear()

    def close(self) -> None:
        """Nothing to release."""

    def _sweep(self, now_ms: int) -> None:
        if now_ms < self._next_sweep_ms:
            return
        self._next_sweep_ms = now_ms + SWEEP_EVERY_MS
        live = {viewer_id: live_claims(held, 0, now_ms) for viewer_id, held in self._claims.items()}
        self._claims = {viewer_id: held for viewer_id, held in live.items() if len(held)}
        self._pages = {place: kept for place, kept in self._pages.items() if kept[0] > now_ms}
        self._grants = {key: grants for key, grants in self._grants.items() if grants}
