"""Estimates with intervals, people being the unit that is drawn: pages of one person are not independent.

Ratios of sums (value per page, regret as a share) get a t interval over people by linearisation, or a bootstrap that
draws people, not pages (Deng, Knoblich and Lu 2018, "Applying the delta method in metric analytics").
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from millrace.simulator.judge.extras import require

Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.95
_DRAWS_AT_ONCE: Final = 4_000_000


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number and how sure we are of it.

    Attributes
    ----------
    value
        NaN where there is nothing to say.
    low, high
        Bounds of the interval (95 % unless asked otherwise); NaN from fewer than two people.
    error
        Standard error.
    n
        People behind it.
    """

    value: float
    low: float
    high: float
    error: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


NOTHING: Final = Estimate(value=math.nan, low=math.nan, high=math.nan, error=math.nan, n=0)


def around(value: float, error: float, df: float, n: int, level: float = LEVEL) -> Estimate:
    """Return a t interval around a value."""
    if not math.isfinite(error) or df <= 0:
        return Estimate(value=value, low=math.nan, high=math.nan, error=math.nan, n=n)
    half = float(require("scipy.special").stdtrit(df, 0.5 + level / 2)) * error
    return Estimate(value=value, low=value - half, high=value + half, error=error, n=n)


def mean(values: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Return the mean of one number a person, with a t interval."""
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if not n:
        return NOTHING
    error = float(x.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return around(float(x.mean()), error, n - 1, n, level)


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Return sum over sum, people being the rows, with a linearised t interval.

    Parameters
    ----------
    numerator, denominator
        Per person, shape (n,).
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    n, total = len(bottom), float(bottom.sum())
    if not n or total == 0:
        return NOTHING
    value = float(top.sum()) / total
    if n < 2:
        return around(value, math.nan, 0, n, level)
    residual = (top - value * bottom) / (total / n)
    return around(value, float(residual.std(ddof=1) / math.sqrt(n)), n - 1, n, level)


def as_share(estimate: Estimate, level: float = LEVEL) -> Estimate:
    """Return the estimate of a share with Wilson's interval, which stays within 0 and 1 and is honest at both ends.

    The number of independent trials is the one that would give the estimate's error; at 0 and 1, where there is no
    error, it is the number of people (Korn and Graubard 1998, with Wilson's interval for the exact one).
    """
    p, n = estimate.value, estimate.n
    if n < 2 or not math.isfinite(estimate.error):
        return estimate
    trials = p * (1 - p) / estimate.error**2 if 0 < p < 1 and estimate.error > 0 else n
    z = float(require("scipy.special").stdtrit(n - 1, 0.5 + level / 2))
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(max(p * (1 - p) / trials, 0.0) + z**2 / (4 * trials**2))
    low, high = min(max(centre - half, 0.0), p), max(min(centre + half, 1.0), p)
    return msgspec.structs.replace(estimate, low=low, high=high)


def bootstrap_ratio(
    numerator: npt.ArrayLike, denominator: npt.ArrayLike, *, seed: int, n_draws: int = 2_000, level: float = LEVEL
) -> Estimate:
    """Return sum over sum with a percentile interval of a bootstrap that draws people, seeded.

    Parameters
    ----------
    numerator, denominator
        Per person, shape (n,).
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    n = len(bottom)
    if n < 2 or bottom.sum() == 0:
        return ratio(top, bottom, level)
    rng = np.random.default_rng(seed)
    draws = []
    at_once = max(_DRAWS_AT_ONCE // n, 1)
    for first in range(0, n_draws, at_once):
        rows = rng.integers(n, size=(min(at_once, n_draws - first), n))
        below = bottom[rows].sum(axis=1)
        draws.append(np.divide(top[rows].sum(axis=1), below, out=np.full(len(rows), np.nan), where=below != 0))
    drawn = np.concatenate(draws)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    error = float(np.nanstd(drawn, ddof=1))
    return Estimate(value=float(top.sum() / bottom.sum()), low=float(low), high=float(high), error=error, n=n)


def ratio_by(frame: pl.DataFrame, numerator: str, denominator: str, key: str = "viewer") -> Estimate:
    """Return sum over sum of two columns, clustered by a key."""
    sums = frame.group_by(key).agg(pl.col(numerator).cast(pl.Float64).sum(), pl.col(denominator).cast(pl.Float64).sum())
    # Groups come in any order; sums of floats must not depend on it.
    sums = sums.sort(key)
    return ratio(sums[numerator].to_numpy(), sums[denominator].to_numpy())


def mean_by(frame: pl.DataFrame, column: str, key: str = "viewer") -> Estimate:
    """Return the mean of a column over rows, clustered by a key; nulls and NaNs are left out."""
    known = frame.filter(pl.col(column).cast(pl.Float64).is_not_nan()).with_columns(_one=pl.lit(1.0))
    return ratio_by(known, column, "_one", key)


def two_sided_p(t: Any, df: Any) -> Any:
    """Return the two-sided p-values of t statistics, of their shape."""
    return 2.0 * require("scipy.special").stdtr(df, -np.abs(t))


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return p-values adjusted for their number (Holm 1979), in the order given; NaN stays NaN and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
