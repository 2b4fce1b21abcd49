"""Visits, from moments alone: what lies less than half an hour apart is one."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.simulator.marginals.statistics import Int64Array, Marginals, rhythm, spread

VISIT_GAP_MS: Final = 30 * 60_000
"""The usual cut of web logs (Catledge and Pitkow 1995 measured 25.5 minutes)."""


def visits(viewer: Int64Array, time_ms: Int64Array, window_ms: int | None = None) -> Marginals:
    """Return how much is seen in a visit, how long it lasts, and the gaps between one's visits.

    ``window_ms`` is that of `rhythm`.
    """
    if len(viewer) == 0:
        return {}
    order = np.lexsort((time_ms, viewer))
    who, when = viewer[order], time_ms[order]
    begins = np.r_[True, (np.diff(who) != 0) | (np.diff(when) > VISIT_GAP_MS)]
    first = np.flatnonzero(begins)
    length = np.diff(np.r_[first, len(who)])
    last = first + length - 1
    found: Marginals = {"posts per visit": spread(length)}
    lasted = (when[last] - when[first]) / 1000.0
    if lasted.any():
        found["seconds per visit"] = spread(lasted)
    if gaps := rhythm(who[first], when[first], window_ms):
        found["gaps between visits"] = gaps
    return found
