"""Numbers as one byte each: logarithmic buckets, fine enough that a model sees ratios, coarse enough to be logged."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]

BUCKETS_PER_DOUBLING: Final = 8.0
"""One bucket is a factor of 1.09."""

SCALE: Final = 1.0 / 32.0
"""From buckets to what networks read: four doublings are 1."""

_MINUTE_MS: Final = 60_000.0


def log_buckets(amounts: npt.NDArray[Any]) -> UInt8Array:
    """Return ``round(8 log2(1 + x))`` of amounts, at most 255 (four billion); what is below 0 counts as 0."""
    logs = np.log2(1.0 + np.maximum(amounts, 0.0))
    buckets: UInt8Array = np.minimum(np.rint(logs * BUCKETS_PER_DOUBLING), 255.0).astype(np.uint8)
    return buckets


def minute_buckets(durations_ms: npt.NDArray[Any]) -> UInt8Array:
    """Return logarithmic buckets of durations in minutes."""
    return log_buckets(np.asarray(durations_ms, dtype=np.float64) / _MINUTE_MS)


def second_buckets(durations_ms: npt.NDArray[Any]) -> UInt8Array:
    """Return logarithmic buckets of durations in seconds."""
    return log_buckets(np.asarray(durations_ms, dtype=np.float64) / 1000.0)
