"""Rules of the streaming join for both of its forms: delays as buckets, the draw of a row, when a row is due."""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.actions import Action
from millrace.base.ids import Int64Array
from millrace.base.kernels import njit

GRAIN_MS: Final = 1_000
"""Rows fall due at whole seconds of the watermark."""

N_DELAYS: Final = 144
"""Buckets of delays: four an octave, up to four years."""

PLAIN: Final = 1 << int(Action.NOT_DWELLED)
"""Labels of a row in which nothing was done; what else is told, reports and mutes too, is never sampled away."""

MAX_ACTIONS: Final = 63
"""Labels are kept as the bits of one int64."""


@njit(cache=True)
def delay_bucket(delay_ms: int) -> int:
    """Return the bucket of a delay; negative ones count as none."""
    delay = max(delay_ms, 0)
    n_bits = 0
    while delay >> n_bits:
        n_bits += 1
    if n_bits <= 3:
        return delay
    bucket: int = 4 * (n_bits - 2) + ((delay >> (n_bits - 3)) & 3)
    return min(bucket, N_DELAYS - 1)


def bucket_end_ms(bucket: int) -> int:
    """Return the longest delay of a bucket."""
    if bucket < 8:
        return bucket
    n_bits, quarter = bucket // 4 + 2, bucket % 4
    return ((4 + quarter + 1) << (n_bits - 3)) - 1


BUCKET_ENDS_MS: Final = np.array([bucket_end_ms(bucket) for bucket in range(N_DELAYS)], dtype=np.int64)


@njit(cache=True)
def delay_quantile_ms(counts: Int64Array, ends_ms: Int64Array, quantile: float) -> int:
    """Return the end of the bucket below which a share of the counted delays lies; 0 where there are none."""
    total = 0
    for bucket in range(len(counts)):
        total += counts[bucket]
    if total == 0:
        return 0
    bucket, below = 0, counts[0]
    while below < quantile * total:
        bucket += 1
        below += counts[bucket]
    found: int = ends_ms[bucket]
    return found


@njit(cache=True)
def longest_window_ms(
    windows_ms: Int64Array,
    delays: Int64Array,
    ends_ms: Int64Array,
    quantile: float,
    min_delays: int,
    min_ms: int,
    max_ms: int,
) -> int:
    """Return the longest window of the actions whose delays are known well enough; of all as configured, if none is.

    Parameters
    ----------
    windows_ms
        Shape (n_actions,), int64: as configured.
    delays
        Shape (n_actions, `N_DELAYS`), int64: counts by `delay_bucket`.
    """
    longest, longest_configured = 0, 0
    for action in range(len(windows_ms)):
        longest_configured = max(longest_configured, windows_ms[action])
        n_seen = 0
        for bucket in range(delays.shape[1]):
            n_seen += delays[action, bucket]
        if n_seen >= min_delays:
            window = min(max(delay_quantile_ms(delays[action], ends_ms, quantile), min_ms), max_ms)
            longest = max(longest, window)
    return longest if longest > 0 else longest_configured


@njit(cache=True)
def _mixed(one: int, other: int) -> np.uint64:
    """Return 64 well mixed bits of two ids.

    SplitMix64's finaliser (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    """
    x = np.uint64(one) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(other)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def mix(one: int, other: int) -> int:
    """Return a hash of two ids that is not negative."""
    return int(np.int64(_mixed(one, other) >> np.uint64(1)))


@njit(cache=True)
def draw(request: int, post: int) -> float:
    """Return a number in [0, 1) that belongs to a row: the same in every process and every replay."""
    return float(_mixed(request, post) >> np.uint64(11)) / 9007199254740992.0
