"""`EventLimits`: how fast each client may send events, whichever worker it reaches."""

from __future__ import annotations

import logging
import math
from typing import Final

from millrace.app.access import Caller
from millrace.app.config import LimitsConfig
from millrace.base.backoff import Backoff
from millrace.base.clock import Clock, SystemClock
from millrace.base.errors import StoreError, TooManyError
from millrace.stores.claims import ClaimStore

_MS_PER_S: Final = 1000
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 10.0

logger = logging.getLogger(__name__)


class EventLimits:
    """Budgets of events by caller, in the store that all workers share.

    They fill in real time, also in a home that lives in virtual time: what they protect is this machine.

    Parameters
    ----------
    config
        How fast and how many.
    claims
        Keeps the budgets. Where it does not answer, nobody is limited: events are worth more than their even flow. And
        it is left alone for a moment, up to ten seconds: every event waits behind whoever waits for it.
    clock
        Real time, the same for all workers.
    """

    def __init__(self, config: LimitsConfig, claims: ClaimStore, clock: Clock | None = None) -> None:
        self._config = config
        self._claims = claims
        self._clock = clock or SystemClock()
        self._rest = Backoff(self._clock, _FIRST_REST_S, _LONGEST_REST_S)

    def spend(self, caller: Caller, n: int) -> None:
        """Spend ``n`` events of a caller's budget.

        Raises
        ------
        TooManyError
            If it does not hold so many: nothing was spent; says when it will, or that it never does.
        """
        is_viewer = caller.role == "viewer"
        config = self._config
        per_s = config.viewer_events_per_s if is_viewer else config.producer_events_per_s
        burst = config.viewer_burst if is_viewer else config.producer_burst
        if not per_s or not n:
            return
        who = f"{'viewer' if is_viewer else 'key'} {caller.name!r}"
        if n > burst:
            raise TooManyError(
                "events of " + who,
                value=n,
                problem=f"more in one request than are ever taken at once ({burst:,})",
                remedy=f"send at most {burst:,} at once, {per_s:g} a second on average",
                retry_after_s=burst / per_s,
            )
        if self._rest.left_s > 0:
            return
        try:
            wait_ms = self._claims.spend(
                f"events/{caller.role}/{caller.name}", n, per_s=per_s, burst=burst, now_ms=self._clock.now_ms()
            )
        except StoreError as error:
            if self._rest.n_failures == 0:
                logger.warning("events are taken in without a limit: %s", error)
            self._rest.fail()
            return
        self._rest.succeed()
        if wait_ms:
            raise TooManyError(
                "events of " + who,
                value=n,
                problem=f"more than {per_s:g} a second on average ({burst:,} at once after a rest)",
                remedy=f"nothing was taken in; send them again in {math.ceil(wait_ms / _MS_PER_S)} s",
                retry_after_s=wait_ms / _MS_PER_S,
            )
