"""Maturity: which slates are old enough that what comes of them has come, by the delays that the log itself shows.

A label that says "nothing was done" is worth nothing while it still may be. The window of a look (a day) would be safe,
and would throw away all of a home that is a day old; but nearly all that is done with a post is done while it is on the
screen. So a slate counts once `QUANTILE` of all actions would have come, by how long they took in this log.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.flywheel.slates import Slates

QUANTILE: Final = 0.99


def maturity_ms(slates: Slates) -> int:
    """Return how long after a look `QUANTILE` of its actions have come; 0 for a log without actions."""
    if not len(slates.delays_ms):
        return 0
    return int(np.quantile(slates.delays_ms, QUANTILE, method="higher"))


def mature_until_ms(slates: Slates, last_ms: int) -> int:
    """Return the moment before which a slate's last look must have begun.

    The older half of the slates counts in any case: a log that is young beside its delays would have none left.

    Parameters
    ----------
    slates
        All of a log.
    last_ms
        The time that the log has reached.
    """
    until_ms = last_ms - maturity_ms(slates)
    if len(slates):
        half = (len(slates) - 1) // 2
        until_ms = max(until_ms, int(np.partition(slates.ended_ms, half)[half]))
    return until_ms + 1


def mature(slates: Slates, last_ms: int) -> Slates:
    """Return the slates whose labels count."""
    return slates.take(np.flatnonzero(slates.ended_ms < mature_until_ms(slates, last_ms)))
