"""What importers make by seed where a data set is silent: time on screen, and when a post was published.

A data set that says who saw what seldom says for how long. The dwell that we make claims no more than the data does:
`valid_dwell_ms` is a valid view, for what was opened; `silent_dwell_ms` lies between the dwell family's thresholds
(as they are by default), so that neither ``dwell`` nor ``not_dwelled`` is derived from it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.base.ids import Int64Array

_SHORT_MS: Final = 3_000
_VALID_MS: Final = 6_000
_MAX_MS: Final = 600_000
_MEDIAN_READ_MS: Final = 20_000


def valid_dwell_ms(rng: np.random.Generator, n: int) -> Int64Array:
    """Return dwells of things that were opened: over 6 s, some 26 s at the median; shape (n,)."""
    read_ms = _MEDIAN_READ_MS * np.exp(rng.standard_normal(n))
    dwell_ms: Int64Array = np.minimum(_VALID_MS + 1 + read_ms, _MAX_MS).astype(np.int64)
    return dwell_ms


def silent_dwell_ms(rng: np.random.Generator, n: int) -> Int64Array:
    """Return dwells that say neither "read" nor "passed over": 3 to 6 s; shape (n,)."""
    return rng.integers(_SHORT_MS, _VALID_MS + 1, n)


def published_ms(rng: np.random.Generator, first_use_ms: Int64Array, start_ms: int, mean_ms: int) -> Int64Array:
    """Return times before each post's first use, exponentially distributed, not before ``start_ms``; shape (n,)."""
    lead_ms = 1 + rng.exponential(mean_ms, len(first_use_ms)).astype(np.int64)
    out_ms: Int64Array = np.maximum(first_use_ms - lead_ms, start_ms)
    return out_ms
