"""P(action) from counters: smoothed rates, a level at a time, from everybody down to the post itself.

Each level is the prior of the next (Bayesian shrinkage: a Beta-binomial mean with the prior's strength in views)::

    base rate → topic → author → totals known from elsewhere → the post

so a post that was shown twice and liked once is not a post that half of its viewers like. The kernel and its NumPy
reference are the same arithmetic.

Views that nobody logged are guessed: where a count exceeds the impressions (imports bring actions without
impressions), views are taken as ``25 x c^0.8`` of the largest count c, so that larger counts mean higher rates. Nothing
is then concluded from what was not counted: an import that knows likes alone says nothing about replies.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import types

from millrace.base.kernels import njit

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

GUESS_FACTOR: Final = np.float32(25.0)
GUESS_POWER: Final = np.float32(0.8)

_COUNTS: Final[Any] = types.Array(types.float32, 2, "A", readonly=True)
_VECTOR: Final[Any] = types.Array(types.float32, 1, "C", readonly=True)
_FLAGS: Final[Any] = types.Array(types.boolean, 1, "C", readonly=True)


@njit(cache=True)
def _shrink(rates: Float32Array, counts: Float32Array, strength: float, max_views: float, continuous: int) -> None:
    """Replace rates by their posterior mean after ``counts`` (impressions last), ``strength`` views of prior."""
    n_actions = len(rates)
    views = counts[n_actions]
    largest = np.float32(0.0)
    for action in range(n_actions):
        if action != continuous:
            largest = max(largest, counts[action])
    is_guess = largest > views
    if is_guess:
        views = max(views, GUESS_FACTOR * largest**GUESS_POWER)
    if views <= 0.0:
        return
    scale = np.float32(1.0)
    if max_views > 0.0 and views > max_views:
        scale = np.float32(max_views / views)
    weight = np.float32(1.0) / (views * scale + np.float32(strength))
    by_count, by_prior = scale * weight, np.float32(strength) * weight
    for action in range(n_actions):
        if counts[action] > 0.0 or not is_guess:
            rates[action] = counts[action] * by_count + rates[action] * by_prior


@njit([(_COUNTS, _COUNTS, _COUNTS, _COUNTS, _VECTOR, _VECTOR, types.float32, types.int64)], cache=True)
def smoothed_rates(
    topic: Float32Array,
    author: Float32Array,
    observed: Float32Array,
    post: Float32Array,
    base: Float32Array,
    strengths: Float32Array,
    max_observed_views: float,
    continuous: int,
) -> Float32Array:
    """Return smoothed rates of every action, shape (n, n_actions), float32.

    Parameters
    ----------
    topic, author, observed, post
        Counts, shape (n, n_actions + 1), impressions last.
    base
        Rates before any evidence, shape (n_actions,).
    strengths
        Views that the prior of topic, author, observed and post is worth, shape (4,).
    max_observed_views
        Totals from elsewhere weigh at most this many views.
    continuous
        The action whose count is an amount (seconds).
    """
    n = len(post)
    rates = np.empty((n, len(base)), dtype=np.float32)
    for row in range(n):
        mine = rates[row]
        mine[:] = base
        _shrink(mine, topic[row], strengths[0], 0.0, continuous)
        _shrink(mine, author[row], strengths[1], 0.0, continuous)
        _shrink(mine, observed[row], strengths[2], max_observed_views, continuous)
        _shrink(mine, post[row], strengths[3], 0.0, continuous)
        for action in range(len(base)):
            if action != continuous and mine[action] > 1.0:
                mine[action] = 1.0
    return rates


def smoothed_rates_reference(
    topic: Float32Array,
    author: Float32Array,
    observed: Float32Array,
    post: Float32Array,
    base: Float32Array,
    strengths: Float32Array,
    max_observed_views: float,
    continuous: int,
) -> Float32Array:
    """Return the same as `smoothed_rates`, in NumPy and double precision."""
    n_actions = len(base)
    is_probability = np.arange(n_actions) != continuous
    rates = np.tile(base.astype(np.float64), (len(post), 1))
    caps = (np.inf, np.inf, max_observed_views, np.inf)
    for counts, strength, cap in zip((topic, author, observed, post), strengths, caps, strict=True):
        done, views = counts[:, :n_actions].astype(np.float64), counts[:, n_actions].astype(np.float64)
        largest = done[:, is_probability].max(axis=1, initial=0.0)
        guess = np.maximum(views, float(GUESS_FACTOR) * largest ** float(GUESS_POWER))
        views = np.where(largest > views, guess, views)
        scale = np.where(views > cap, cap / np.maximum(views, 1e-9), 1.0) if np.isfinite(cap) else np.ones(len(views))
        posterior = (done * scale[:, None] + strength * rates) / (views * scale + strength)[:, None]
        is_known = (views > 0)[:, None] & ((largest <= counts[:, n_actions])[:, None] | (done > 0))
        rates = np.where(is_known, posterior, rates)
    rates[:, is_probability] = np.minimum(rates[:, is_probability], 1.0)
    return rates.astype(np.float32)
