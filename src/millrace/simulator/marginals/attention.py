"""What is looked at and what comes of it: clicks by position, and how unequally posts get attention."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.simulator.marginals.statistics import Column, Int64Array, Statistics, concentration, spread
from millrace.simulator.marginals.tails import tail_of

BANDS: Final = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 5), (6, 10), (11, 20), (21, 30))
"""Positions that are counted together; single ones would be noise further down."""

MIN_EXPECTED: Final = 20.0
"""A band is shown if so many clicks would be expected in it without any effect of position."""

_N_STEPS: Final = 30


def by_position(page: Int64Array, position: Int64Array, is_clicked: Column) -> Statistics:
    """Return how the rate of clicks falls with position.

    ``rate``, ``rate at 0`` and ``plain at 4-5`` (relative to position 0) are of all pages together. Short pages have
    higher rates than long ones, and only long ones have far positions, so they fall even where position does nothing.
    ``at 4-5`` compares within pages: clicks there over the clicks expected if each page had spread its own evenly,
    relative to position 0. ``decay`` is the exponent of ``(1 + position) ** -decay`` that makes the pages' clicks
    likeliest, given how many each page got (a conditional logit, McFadden 1974); ``decay se`` its standard error;
    ``plain decay`` that of all pages together.

    Parameters
    ----------
    page, position, is_clicked
        Shape (n,), a row for everything shown; rows with a negative position are left out.
    """
    shown = position >= 0
    page, position, clicked = page[shown], position[shown], is_clicked[shown].astype(np.float64)
    if len(page) == 0 or clicked.sum() == 0:
        return {}
    found = {"rate": float(clicked.mean())}
    _, page = np.unique(page, return_inverse=True)
    expected = (np.bincount(page, clicked) / np.bincount(page))[page]
    if (position == 0).any():
        found["rate at 0"] = float(clicked[position == 0].mean())
        found |= _bands(position, clicked, np.full(len(page), found["rate"]), "plain at")
        found |= _bands(position, clicked, expected, "at")
    log_place = np.log1p(position.astype(np.float64))
    decay, error = _decay(page, log_place, clicked)
    plain, _ = _decay(np.zeros(len(page), dtype=np.int64), log_place, clicked)
    return {**found, "plain decay": plain, "decay": decay, "decay se": error}


def popularity(values: Column) -> Statistics:
    """Return how many posts get none of something, and how unequally it is spread over all of them.

    ``cv of the rate`` is the coefficient of variation of what lies behind small counts: of the rates, if each count
    is Poisson about its own. It compares logs of different size, where quantiles of small counts cannot.
    """
    if len(values) == 0:
        return {}
    mean, variance = float(values.mean()), float(values.var())
    return {
        **spread(values),
        "none at all": float((values == 0).mean()),
        **({"cv of the rate": max(variance - mean, 0.0) ** 0.5 / mean} if mean > 0 else {}),
        **concentration(values),
        **tail_of(values),
    }


def pages_of(viewer: Int64Array, time_ms: Int64Array, position: Int64Array, request: Int64Array) -> Int64Array:
    """Return a page's number for each impression, shape (n,): its request; without one, a run of rising positions."""
    order = np.lexsort((position, time_ms, viewer))
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = (np.diff(viewer[order]) != 0) | (np.diff(position[order]) <= 0)
    page = np.empty(len(order), dtype=np.int64)
    page[order] = np.cumsum(begins)
    return np.where(request >= 0, -1 - request, page)


def is_answered(
    shown: tuple[Int64Array, Int64Array, Int64Array], acted: tuple[Int64Array, Int64Array, Int64Array]
) -> Column:
    """Return which impressions were acted on, shape (n,): the one nearest in time of the same viewer and post.

    Parameters
    ----------
    shown, acted
        ``(viewer, post, time_ms)``.
    """
    n = len(shown[0])
    found = np.zeros(n, dtype=np.bool_)
    if n == 0 or len(acted[0]) == 0:
        return found
    n_posts = int(max(shown[1].max(), acted[1].max())) + 1
    pairs, code = np.unique(shown[0] * n_posts + shown[1], return_inverse=True)
    wanted = acted[0] * n_posts + acted[1]
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    met = pairs[at] == wanted
    # Seconds in 32 bits leave 31 for the pairs; one key then sorts by pair and time.
    begin_ms = min(int(shown[2].min()), int(acted[2].min()))
    key = (code << 32) | ((shown[2] - begin_ms) // 1000)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    sought = (at[met] << 32) | ((acted[2][met] - begin_ms) // 1000)
    after = np.minimum(np.searchsorted(ordered, sought), n - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(ordered[before] - sought) < np.abs(ordered[after] - sought)
    found[order[np.where(nearer, before, after)]] = True
    return found


def _bands(position: Int64Array, clicked: Column, expected: Column, name: str) -> Statistics:
    """Return clicks over expected clicks in each band, relative to position 0."""
    ratios: Statistics = {}
    for low, high in BANDS:
        inside = (position >= low) & (position <= high)
        if (due := float(expected[inside].sum())) >= MIN_EXPECTED:
            ratios[f"{name} {low}" if low == high else f"{name} {low}-{high}"] = float(clicked[inside].sum()) / due
    first = ratios.pop(f"{name} 0", 0.0)
    return {band: ratio / first for band, ratio in ratios.items()} if first > 0 else {}


def _decay(page: Int64Array, log_place: Column, clicked: Column) -> tuple[float, float]:
    """Return the likeliest exponent and its standard error, by Newton's method: the likelihood is concave."""
    n_clicks = np.bincount(page, clicked)
    observed = float(clicked @ log_place)
    decay, information = 0.0, 0.0
    for _ in range(_N_STEPS):
        weight = np.exp(-decay * log_place)
        total = np.bincount(page, weight)
        mean = np.bincount(page, weight * log_place) / total
        variance = np.bincount(page, weight * log_place**2) / total - mean**2
        information = float(n_clicks @ variance)
        if information <= 0:
            return 0.0, float("inf")
        step = (float(n_clicks @ mean) - observed) / information
        decay = float(np.clip(decay + np.clip(step, -1.0, 1.0), -10.0, 10.0))
        if abs(step) < 1e-9:
            break
    return decay, information**-0.5
