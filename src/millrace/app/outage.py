"""`Outage`: a server that is away is told once, left alone longer and longer, and told once more when it is back."""

from __future__ import annotations

import logging
import random
from typing import Final

from millrace.base.backoff import Backoff
from millrace.base.clock import Clock
from millrace.base.errors import MillraceError

_LONGEST_REST_S: Final = 60.0


class Outage:
    """What a role that depends on a server does while that does not answer.

    Parameters
    ----------
    logger
        Told when something goes away, with what, where and the remedy as the error has them, and when it is back.
    clock
        Gives real time.
    first_s, longest_s
        Rests: the first one, doubled up to the longest; each is shortened by chance, up to a half.
    jitter
        Of the rests.
    """

    def __init__(
        self,
        logger: logging.Logger,
        clock: Clock,
        first_s: float,
        longest_s: float = _LONGEST_REST_S,
        *,
        jitter: random.Random | None = None,
    ) -> None:
        self._logger, self._clock = logger, clock
        self._longest_s = max(first_s, longest_s)
        # Only spreads out those who lost the same server.
        self._backoff = Backoff(clock, first_s, self._longest_s, jitter=jitter or random.Random())  # noqa: S311
        self._since_s_by_thing: dict[str, float] = {}

    def fail(self, error: MillraceError) -> float:
        """Say that it failed; return for how many seconds to leave it alone."""
        rest_s = self._backoff.fail()
        if error.thing not in self._since_s_by_thing:
            self._since_s_by_thing[error.thing] = self._clock.monotonic_s()
            self._logger.error(
                "%s; tried again in %.0f s, then ever less often (%.0f s at most); told again when it is back",
                error,
                rest_s,
                self._longest_s,
            )
        return rest_s

    def succeed(self) -> None:
        """Say that it works."""
        for thing, since_s in self._since_s_by_thing.items():
            self._logger.warning(
                "%s is back after %.0f s (%d tries failed); nothing is lost, what was missed follows now",
                thing,
                self._clock.monotonic_s() - since_s,
                self._backoff.n_failures,
            )
        self._since_s_by_thing.clear()
        self._backoff.succeed()
