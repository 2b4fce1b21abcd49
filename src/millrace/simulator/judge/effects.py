"""The effect of a change on a sum per person: paired, by twins of one world, or between two groups of people.

Relative effects are ratios of means with errors by the delta method (Deng et al. 2018). Both forms keep who never came:
a feed that drives people away must not look better for it.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.simulator.judge.intervals import NOTHING, Estimate, Floats, around, mean, ratio, two_sided_p


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did.

    Attributes
    ----------
    before, after
        Means per person (per page, where that was asked).
    difference
        ``after - before``.
    relative
        ``difference`` over the size of ``before``: worse is negative, even where things were bad before. Where they
        were near zero its interval is wide, and `difference` is the better reading.
    p_value
        Two-sided, of no difference; NaN where it cannot be told.
    n
        People: pairs, or both groups together.
    """

    before: float
    after: float
    difference: Estimate
    relative: Estimate
    p_value: float
    n: int


def paired_effect(before: npt.ArrayLike, after: npt.ArrayLike) -> Effect:
    """Return the effect from both outcomes of the same people, shape (n,) each: a paired t test.

    Where nobody's outcome differs at all, the p-value is 1.
    """
    x, y = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    ones = np.ones(len(x))
    return paired_ratio_effect(x, ones, y, ones)


def paired_ratio_effect(
    before: npt.ArrayLike, before_per: npt.ArrayLike, after: npt.ArrayLike, after_per: npt.ArrayLike
) -> Effect:
    """Return the effect on sum over sum (value per page) of the same people, linearised, shape (n,) each."""
    x, y = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    x_per, y_per = np.asarray(before_per, dtype=np.float64), np.asarray(after_per, dtype=np.float64)
    n = len(x)
    if not n or not x_per.sum() or not y_per.sum():
        return _unknown(n)
    x_mean, y_mean = float(x.sum() / x_per.sum()), float(y.sum() / y_per.sum())
    x_part = (x - x_mean * x_per) / x_per.mean()
    y_part = (y - y_mean * y_per) / y_per.mean()
    absolute = _error_of(y_part - x_part)
    times = y_mean / x_mean if x_mean else math.nan
    relative = _error_of((y_part - times * x_part) / x_mean) if x_mean else math.nan
    return _effect(x_mean, y_mean, absolute, relative, n - 1, n - 1, n)


def split_effect(before: npt.ArrayLike, after: npt.ArrayLike) -> Effect:
    """Return the effect between two groups of people, shapes (n,) and (m,): Welch's t test."""
    x, y = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    return split_ratio_effect(x, np.ones(len(x)), y, np.ones(len(y)))


def split_ratio_effect(
    before: npt.ArrayLike, before_per: npt.ArrayLike, after: npt.ArrayLike, after_per: npt.ArrayLike
) -> Effect:
    """Return the effect on sum over sum between two groups of people, linearised, shapes (n,), (n,), (m,) and (m,)."""
    one, other = ratio(before, before_per), ratio(after, after_per)
    n = one.n + other.n
    if one.n < 2 or other.n < 2:
        return _unknown(n)
    times = other.value / one.value if one.value else math.nan
    relative = math.hypot(other.error, times * one.error) / abs(one.value) if one.value else math.nan
    return _effect(
        one.value,
        other.value,
        math.hypot(one.error, other.error),
        relative,
        _welch_df(one.error**2, other.error**2, one.n, other.n),
        _welch_df((times * one.error) ** 2, other.error**2, one.n, other.n),
        n,
    )


def apart(one: Estimate, other: Estimate) -> tuple[Estimate, float]:
    """Return ``one - other`` of estimates from different draws, and its two-sided p-value."""
    if not (math.isfinite(one.error) and math.isfinite(other.error)):
        return NOTHING, math.nan
    n = one.n + other.n
    error = math.hypot(one.error, other.error)
    df = _welch_df(one.error**2, other.error**2, one.n, other.n)
    difference = around(one.value - other.value, error, df, n)
    return difference, p_value(difference.value, error, df)


def p_value(difference: float, error: float, df: float) -> float:
    """Return the two-sided p-value of a difference; without any error it is 1 for no difference, else 0."""
    if not math.isfinite(error) or not math.isfinite(difference):
        return math.nan
    if error == 0 or df <= 0:
        return 1.0 if difference == 0 else 0.0
    return float(two_sided_p(difference / error, df))


def _effect(
    before: float, after: float, absolute: float, relative: float, df: float, relative_df: float, n: int
) -> Effect:
    return Effect(
        before=before,
        after=after,
        difference=around(after - before, absolute, df, n),
        relative=around((after - before) / abs(before) if before else math.nan, relative, relative_df, n),
        p_value=p_value(after - before, absolute, df),
        n=n,
    )


def _unknown(n: int) -> Effect:
    return Effect(before=math.nan, after=math.nan, difference=NOTHING, relative=NOTHING, p_value=math.nan, n=n)


def _error_of(parts: Floats) -> float:
    return mean(parts).error


def _welch_df(x_var: float, y_var: float, n: int, m: int) -> float:
    below = x_var**2 / max(n - 1, 1) + y_var**2 / max(m - 1, 1)
    return (x_var + y_var) ** 2 / below if below else float(n + m - 2)
