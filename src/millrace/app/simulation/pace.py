"""`Pace`: how fast a living world goes on, and how much of a server it may take for itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

REST_PER_WORK: Final = 2.0
"""After each call a rest of twice its length: people who use the server find it free two thirds of the time."""

_FORGIVEN_S: Final = 2.0


class Pace:
    """Ties virtual time to real time; who comes late stays late and does not hurry.

    Parameters
    ----------
    speed
        Virtual seconds per real second, above 0.
    monotonic_s, sleep
        Real time.
    """

    def __init__(
        self,
        speed: float,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.speed = speed
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._virtual_ms = 0
        self._due_s = 0.0

    def wait_for(self, virtual_ms: int) -> None:
        """Return when ``virtual_ms`` has come; at once for what is past, and the first time."""
        now_s = self._monotonic_s()
        if not self._virtual_ms:
            self._virtual_ms, self._due_s = virtual_ms, now_s
        if virtual_ms <= self._virtual_ms:
            return
        self._due_s += (virtual_ms - self._virtual_ms) / 1_000 / self.speed
        self._virtual_ms = virtual_ms
        if self._due_s > now_s:
            self._sleep(self._due_s - now_s)
        # What was lost to a slow server is lost: making up for it would load the server most when it is slowest.
        self._due_s = max(self._due_s, now_s - _FORGIVEN_S)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Rest after the block for as long as it took, times `REST_PER_WORK`."""
        began_s = self._monotonic_s()
        yield
        self._sleep(REST_PER_WORK * (self._monotonic_s() - began_s))
