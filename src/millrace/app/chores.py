"""`Chores`: background work of which each kind may fail without holding up anything else.

A chore that fails is logged, counted, and left alone for a while: ten seconds after the first failure, twice as
long after each further one, at most an hour. What it would have done waits; nothing is lost by that but time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar

from millrace.base.clock import Clock
from millrace.base.errors import MillraceError

FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 3_600.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Chores:
    """Runs chores by name.

    Parameters
    ----------
    clock
        Its monotonic side says when a chore that failed is tried again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._n_failed: Counter[str] = Counter()
        self._n_in_a_row: Counter[str] = Counter()
        self._not_before_s: dict[str, float] = {}

    @property
    def n_failed(self) -> Mapping[str, int]:
        """How often each chore has failed."""
        return self._n_failed

    @property
    def failing(self) -> Collection[str]:
        """The chores that failed the last time."""
        return self._not_before_s.keys()

    def run(self, name: str, work: Callable[[], T]) -> T | None:
        """Do a chore, unless it failed a moment ago; return what it returns, None if it was not done."""
        now_s = self._clock.monotonic_s()
        if now_s < self._not_before_s.get(name, now_s):
            return None
        try:
            result = work()
        except Exception as error:  # whatever it is: folding and checkpoints must go on
            self._n_failed[name] += 1
            pause_s = min(FIRST_PAUSE_S * 2.0 ** self._n_in_a_row[name], LONGEST_PAUSE_S)
            self._n_in_a_row[name] += 1
            self._not_before_s[name] = now_s + pause_s
            # Errors of our own say what to do; of others, where it happened is all there is.
            is_ours = isinstance(error, MillraceError)
            logger.error("chore %r failed and is tried again in %.0f s: %s", name, pause_s, error, exc_info=not is_ours)
            return None
        if n_failed := self._n_in_a_row.pop(name, 0):
            logger.warning("chore %r works again; it had failed %d times in a row", name, n_failed)
        self._not_before_s.pop(name, None)
        return result
