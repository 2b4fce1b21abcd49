"""`RankServers`: the rank servers of one client, and which of them may be asked now.

A server that cannot be reached, does not answer in time, fails, or does not hold the model is left alone after some of
that in a row, each server by itself; then one call tries it again. The rest doubles with each further failure, so that
pages do not wait for a machine that is gone, and one that is back is found within half a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from millrace.base.backoff import Backoff
from millrace.base.clock import Clock
from millrace.base.errors import MillraceError, NotReadyError

MAX_FAILURES: Final = 3
REST_S: Final = 1.0
LONGEST_REST_S: Final = 30.0

_MAX_ASKED: Final = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerStanding:
    """How a client stands with one server.

    Attributes
    ----------
    address
        ``host:port``.
    n_failures
        In a row, up to now; 0: it answers, or was not asked yet.
    rests_s
        Real seconds until it is tried again; 0: it is asked.
    problem
        What the last failure was; empty where it answers.
    """

    address: str
    n_failures: int
    rests_s: float
    problem: str


class RankServers:
    """Remembers how each server did.

    Parameters
    ----------
    addresses
        ``host:port`` of each.
    clock
        Its real time is what rests are in.
    """

    def __init__(self, addresses: Sequence[str], clock: Clock) -> None:
        self.addresses = tuple(addresses)
        self._backoffs = [Backoff(clock, REST_S, LONGEST_REST_S, n_free=MAX_FAILURES - 1) for _ in addresses]
        self._problems = [""] * len(self.addresses)
        self._turn = 0

    def standings(self) -> tuple[ServerStanding, ...]:
        """Return how each server stands."""
        return tuple(
            ServerStanding(address, backoff.n_failures, backoff.left_s, problem)
            for address, backoff, problem in zip(self.addresses, self._backoffs, self._problems, strict=True)
        )

    def order(self, key: bytes = b"") -> list[int]:
        """Return all servers in the order in which they are asked: the same for the same key, else in turns."""
        n = len(self.addresses)
        if key:
            first = key[0] % n
        else:
            first = self._turn = (self._turn + 1) % n
        return [(first + step) % n for step in range(n)]

    def awake(self, order: Sequence[int]) -> list[int]:
        """Return the first two servers of an order that may be asked now.

        Raises
        ------
        NotReadyError
            If all are left alone.
        """
        found = [at for at in order if not self._backoffs[at].left_s][:_MAX_ASKED]
        if not found:
            at = min(order, key=lambda at: self._backoffs[at].left_s)
            raise NotReadyError(
                "rank server",
                value=self.addresses[at],
                problem=f"failed {self._backoffs[at].n_failures} times in a row and is left alone for "
                f"{self._backoffs[at].left_s:.1f} s ({self._problems[at]})",
                remedy="look whether it runs and keeps up",
            )
        return found

    def did_well(self, at: int) -> None:
        """Say that a server has answered."""
        if self._backoffs[at].n_failures >= MAX_FAILURES:
            logger.info("rank server %s answers again", self.addresses[at])
        self._backoffs[at].succeed()
        self._problems[at] = ""

    def failed(self, at: int, error: MillraceError) -> None:
        """Say that a server has not answered, or has refused."""
        self._problems[at] = error.problem
        rest_s = self._backoffs[at].fail()
        if rest_s:
            logger.warning(
                "rank server %s is left alone for %.0f s after %d failures in a row: %s",
                self.addresses[at],
                rest_s,
                self._backoffs[at].n_failures,
                error.problem,
            )
