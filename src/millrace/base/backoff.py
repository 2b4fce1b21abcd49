"""`Backoff`: when something that failed is tried again."""

from __future__ import annotations

import random

from millrace.base.clock import Clock

_LEAST_OF_REST = 0.5


class Backoff:
    """Leaves alone what fails: for ``first_s``, twice as long after each further failure, at most ``longest_s``.

    Parameters
    ----------
    clock
        Gives real time.
    first_s, longest_s
        Rests.
    n_free
        So many failures in a row bring no rest.
    jitter
        Shortens each rest by up to a half, so that many who lost the same server do not all come back at once; None:
        rests are as they are.

    Attributes
    ----------
    n_failures
        In a row, up to now.
    """

    def __init__(
        self, clock: Clock, first_s: float, longest_s: float, *, n_free: int = 0, jitter: random.Random | None = None
    ) -> None:
        self._clock = clock
        self._first_s = first_s
        self._longest_s = longest_s
        self._n_free = n_free
        self._jitter = jitter
        self._until_s = 0.0
        self.n_failures = 0

    @property
    def left_s(self) -> float:
        """How long the rest lasts from now on; 0 where there is none: try."""
        if self.n_failures <= self._n_free:
            return 0.0
        return max(0.0, self._until_s - self._clock.monotonic_s())

    def fail(self) -> float:
        """Say that it failed; return how long it rests, 0 for not at all."""
        self.n_failures += 1
        n_rests = self.n_failures - self._n_free
        if n_rests <= 0:
            return 0.0
        # The exponent is bounded: a float has no room for that of a year of failures.
        rest_s = min(self._first_s * 2.0 ** min(n_rests - 1, 60), self._longest_s)
        if self._jitter is not None:
            rest_s *= self._jitter.uniform(_LEAST_OF_REST, 1.0)
        self._until_s = self._clock.monotonic_s() + rest_s
        return rest_s

    def succeed(self) -> None:
        """Say that it worked: what was before counts no more."""
        self.n_failures = 0
