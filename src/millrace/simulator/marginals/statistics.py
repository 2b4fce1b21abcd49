"""One column in, named numbers out: quantiles, concentration, burstiness. The same for worlds and for real sets."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
Int64Array = npt.NDArray[np.int64]
Statistics = dict[str, float]
Marginals = dict[str, Statistics]
"""Quantity → statistic → value, in the order in which a table shows them."""

HOUR_MS: Final = 3_600_000

MIN_GAPS: Final = 5
"""Fewer gaps than these say little about the rhythm of one person."""


def gini(values: Column) -> float:
    """Return Gini's coefficient of non-negative values: 0 all equal, towards 1 one has everything.

    Examples
    --------
    >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 4]))
    (0.0, 0.75)
    """
    ordered = np.sort(values).astype(np.float64)
    n, total = len(ordered), float(ordered.sum())
    if n == 0 or total <= 0:
        return 0.0
    return float((2.0 * np.arange(1, n + 1) - n - 1) @ ordered) / (n * total)


def top_share(values: Column, top_frac: float) -> float:
    """Return the share of the total that the largest ``top_frac`` of the values hold; at least one value is taken.

    Examples
    --------
    >>> top_share(np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 11]), 0.1)
    0.55
    """
    total = float(values.sum())
    if len(values) == 0 or total <= 0:
        return 0.0
    n_top = max(1, round(top_frac * len(values)))
    return float(np.sort(values)[-n_top:].sum()) / total


def spread(values: Column) -> Statistics:
    """Return where the middle of the values lies and how far they reach: level first, then shape.

    ``p90/median`` and ``p99/median`` do not change with the length of a log or the unit, so they compare.
    """
    if len(values) == 0:
        return {}
    tenth, middle, ninth, last = (float(q) for q in np.quantile(values, [0.1, 0.5, 0.9, 0.99]))
    found = {"mean": float(values.mean()), "p10": tenth, "median": middle, "p90": ninth, "p99": last}
    if middle > 0:
        found |= {"p90/median": ninth / middle, "p99/median": last / middle}
    return found


def concentration(values: Column) -> Statistics:
    """Return how unequally a total is held: Gini's coefficient, and the shares of the largest hundredth and tenth."""
    if len(values) == 0:
        return {}
    return {"gini": gini(values), "top 1% share": top_share(values, 0.01), "top 10% share": top_share(values, 0.1)}


def gaps_s(owner: Int64Array, times_ms: Int64Array) -> tuple[Int64Array, npt.NDArray[np.float64]]:
    """Return whose gap, and its seconds, between each owner's successive moments; shape (n - n_owners,) each."""
    order = np.lexsort((times_ms, owner))
    who, when = owner[order], times_ms[order]
    same = who[1:] == who[:-1]
    return who[1:][same], np.diff(when)[same] / 1000.0


def rhythm(owner: Int64Array, times_ms: Int64Array, window_ms: int | None = None) -> Statistics:
    """Return the gaps between each owner's moments: quantiles over all gaps, share within a day, burstiness.

    A log of two days holds no gap of three. To compare a long log with a short one, give the short one's length as
    ``window_ms``: the long one is cut into windows, and only gaps within a window count.

    Burstiness is the median over owners of ``(sd - mean) / (sd + mean)`` (Goh and Barabási 2008): -1 like a clock,
    0 like Poisson, towards 1 in bursts. Only owners with `MIN_GAPS` gaps count; short series come out lower than
    long ones of the same law (Kim and Jo 2016), so compare logs of similar length.
    """
    if len(owner) == 0:
        return {}
    if window_ms is not None:
        window = (times_ms - times_ms.min()) // window_ms
        owner = owner * (int(window.max()) + 1) + window
    who, gap = gaps_s(owner, times_ms)
    if len(gap) == 0:
        return {}
    quantiles = np.quantile(gap, [0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
    names = ("p10 s", "p25 s", "median s", "p75 s", "p90 s", "p99 s")
    found = {name: float(q) for name, q in zip(names, quantiles, strict=True)}
    found["within a day"] = float((gap < 86_400.0).mean())
    if (bursts := _burstiness(who, gap)) is not None:
        found["burstiness"] = bursts
    return found


def day_profile(times_ms: Int64Array) -> Statistics:
    """Return how far the hours of the day (UTC) stand out: busiest and quietest relative to the mean hour.

    Each hour of the day counts per time that the log has it; a log of less than a day says nothing.
    """
    if len(times_ms) == 0:
        return {}
    hour = times_ms // HOUR_MS
    first, last = int(hour.min()), int(hour.max())
    n_times = np.bincount(np.arange(first, last + 1) % 24, minlength=24)
    if (n_times == 0).any():
        return {}
    rate = np.bincount(hour % 24, minlength=24) / n_times
    rate = rate / rate.mean()
    return {"busiest hour": float(rate.max()), "quietest hour": float(rate.min())}


def _burstiness(who: Int64Array, gap: npt.NDArray[np.float64]) -> float | None:
    _, code = np.unique(who, return_inverse=True)
    n = np.bincount(code)
    mean = np.bincount(code, gap) / n
    variance = np.maximum(np.bincount(code, gap**2) / n - mean**2, 0.0)
    counts = (n >= MIN_GAPS) & (mean > 0)
    if not counts.any():
        return None
    sd = np.sqrt(variance[counts])
    return float(np.median((sd - mean[counts]) / (sd + mean[counts])))
