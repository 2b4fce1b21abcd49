"""The dwell family: what an impression's time on screen says. The one place where seconds become actions.

One viewer and one post have one longest dwell. From it follow, whatever the number and order of impressions:

* ``not_dwelled``: shorter than ``short_ms`` (3 s);
* ``dwell``: longer than ``valid_ms`` (6 s), a valid view;
* ``complete``: at least as long as the video or audio, where there is one;
* ``dwell_time``: the seconds themselves, at most ``max_ms`` (a phone left on a table reads nothing).

Thresholds: `millrace.stores.engagement_config.DwellThresholds`.

A longer impression replaces a shorter one: the seconds grow by the difference, and a post that was passed at first
and read later is no longer counted as passed. An impression sent twice therefore changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from millrace.base.actions import Action
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit

IS_NOT_DWELLED: Final = 1
IS_DWELL: Final = 2
IS_COMPLETE: Final = 4

# Plain numbers: kernels know no enums.
_NOT_DWELLED: Final = int(Action.NOT_DWELLED)
_DWELL: Final = int(Action.DWELL)
_COMPLETE: Final = int(Action.COMPLETE)
_DWELL_TIME: Final = int(Action.DWELL_TIME)


def dwell_flags(longest_ms: int, dwell_ms: int, duration_ms: int, thresholds: Int64Array) -> int:
    """Return which of the family hold after an impression: a mask of ``IS_...`` bits.

    Parameters
    ----------
    longest_ms
        The longest dwell of this viewer on this post so far, this impression's included.
    dwell_ms
        This impression's dwell.
    duration_ms
        The length of the video or audio, as this impression says; 0 where there is none.
    thresholds
        `millrace.stores.engagement_config.DwellThresholds.as_array`.
    """
    flags = 0
    if longest_ms < thresholds[0]:
        flags |= IS_NOT_DWELLED
    if longest_ms > thresholds[1]:
        flags |= IS_DWELL
    if duration_ms > 0 and dwell_ms >= duration_ms:
        flags |= IS_COMPLETE
    return flags


dwell_flags_kernel: Callable[[int, int, int, Int64Array], int] = njit(cache=True)(dwell_flags)
"""`dwell_flags`, compiled for kernels."""


def strongest_action(flags: int) -> int:
    """Return the action that an impression stands for in a history: complete, dwell, not_dwelled or dwell_time."""
    if flags & IS_COMPLETE:
        return _COMPLETE
    if flags & IS_DWELL:
        return _DWELL
    if flags & IS_NOT_DWELLED:
        return _NOT_DWELLED
    return _DWELL_TIME


strongest_action_kernel: Callable[[int], int] = njit(cache=True)(strongest_action)
"""`strongest_action`, compiled for kernels."""
