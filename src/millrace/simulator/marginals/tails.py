"""`fit_tail`: the exponent of a discrete power law by maximum likelihood, and where its tail begins.

After Clauset, Shalizi and Newman, "Power-law distributions in empirical data", SIAM Review 51 (2009), sections 3.1
to 3.3. A fitted exponent says how heavy a tail is; it does not say that the law is a power law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.simulator.marginals.statistics import Column, Statistics

MIN_TAIL: Final = 50
"""A tail of fewer values is not fitted: its exponent's error is above ten per cent."""

_ALPHAS: Final = np.linspace(1.02, 8.0, 1397)
_MAX_STARTS: Final = 40
_MIN_TAIL_FRAC: Final = 0.02
"""The closest fit is looked for among tails of so many: the last few of a large sample fit anything."""

_N_SUMMED: Final = 12

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tail:
    """``P(x) ∝ x ** -alpha`` for whole ``x >= x_min``.

    Attributes
    ----------
    n
        How many values are in the tail.
    distance
        The largest difference between the fitted and the empirical distribution of the tail (Kolmogorov-Smirnov).
    """

    alpha: float
    x_min: int
    n: int
    distance: float


def fit_tail(values: Column, x_min: int | None = None) -> Tail | None:
    """Return the power law that fits the tail of whole, positive values best; None where there are too few.

    Parameters
    ----------
    values
        Values below 1 are left out.
    x_min
        Where the tail begins; without it, the start at which the fit lies closest to the data.
    """
    positive = values[values >= 1]
    x, count = np.unique(positive.astype(np.int64), return_counts=True)
    n_from = np.cumsum(count[::-1])[::-1]
    if x_min is not None:
        starts = np.array([np.searchsorted(x, x_min)])
    else:
        starts = np.flatnonzero(n_from >= max(MIN_TAIL, _MIN_TAIL_FRAC * len(positive)))
        # At most so many starts, evenly over the ranks: more would not move the answer beyond its error.
        starts = (
            starts[np.unique(np.linspace(0, len(starts) - 1, _MAX_STARTS).astype(np.int64))] if len(starts) else starts
        )
    best: Tail | None = None
    for start in starts.tolist():
        if start >= len(x) - 1:  # a single value has no shape
            continue
        tail = _fit(x[start:], count[start:], int(x[start]) if x_min is None else x_min)
        if best is None or tail.distance < best.distance:
            best = tail
    return best


def tail_of(values: Column) -> Statistics:
    """Return the exponents of a table: of the best-fitting tail and where it begins, and of the largest tenth.

    The first follows the data, so two logs may be fitted from different places on; the second compares like with like.
    """
    found: Statistics = {}
    if (best := fit_tail(values)) is not None:
        found |= {"tail exponent": best.alpha, "tail from": float(best.x_min)}
    positive = values[values >= 1]
    if len(positive) >= 10 * MIN_TAIL:
        start = int(np.quantile(positive, 0.9))
        if (tenth := fit_tail(positive, start)) is not None:
            found["exponent of top 10%"] = tenth.alpha
    return found


def _fit(x: npt.NDArray[np.int64], count: npt.NDArray[np.int64], x_min: int) -> Tail:
    n = int(count.sum())
    mean_log = float(count @ np.log(x)) / n
    likelihood = -np.log(hurwitz(_ALPHAS, float(x_min))) - _ALPHAS * mean_log
    alpha = float(_ALPHAS[int(np.argmax(likelihood))])
    fitted_above = hurwitz(alpha, x.astype(np.float64) + 1.0) / hurwitz(alpha, float(x_min))
    empirical = np.cumsum(count) / n
    return Tail(alpha, x_min, n, float(np.abs(1.0 - fitted_above - empirical).max()))


def hurwitz(s: Float64Array | float, q: Float64Array | float) -> Float64Array:
    """Return the sum of ``(q + k) ** -s`` over k = 0, 1, … (Euler-Maclaurin; right to nine digits for s > 1, q >= 1).

    Examples
    --------
    >>> round(float(hurwitz(2.0, 1.0)), 8)  # pi ** 2 / 6
    1.64493407
    """
    s, q = np.asarray(s, dtype=np.float64), np.asarray(q, dtype=np.float64)
    total = np.zeros(np.broadcast(s, q).shape)
    for k in range(_N_SUMMED):
        total = total + (q + k) ** -s
    a = q + _N_SUMMED
    rest: Float64Array = a ** (1.0 - s) / (s - 1.0) + 0.5 * a**-s
    rest = rest + s / 12.0 * a ** (-s - 1.0) - s * (s + 1.0) * (s + 2.0) / 720.0 * a ** (-s - 3.0)
    return total + rest
