"""A/A tests by the thousand: they tell whether a test of significance is honest where there is nothing to find.

People of one run are split at random, again and again, and each split is tested as if it were an experiment. If the
p-values are not uniform, intervals of real experiments are wrong as well.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import polars as pl

from millrace.base.errors import MillraceError
from millrace.simulator.judge.extras import require
from millrace.simulator.judge.intervals import Floats, two_sided_p
from millrace.simulator.judge.utility import viewer_totals
from millrace.simulator.records import RunRecords

_CELLS_AT_ONCE: Final = 4_000_000


class Uniformity(msgspec.Struct, frozen=True, kw_only=True):
    """Whether p-values look uniform.

    Attributes
    ----------
    statistic, p_value
        Kolmogorov and Smirnov's, against the uniform distribution.
    rejected_frac
        Share of p-values below 0.05; near 0.05 where the test is honest.
    """

    n: int
    statistic: float
    p_value: float
    rejected_frac: float


def aa_p_values(
    records: RunRecords, measure: str = "value", *, per_page: bool = False, n_splits: int = 1000, seed: int = 1
) -> Floats:
    """Return the p-values of random splits of a run's people, shape (n_splits,).

    Parameters
    ----------
    measure
        One of `millrace.simulator.judge.utility.MEASURES`, ``"n_sessions"``, ``"n_pages"`` or ``"n_negative"``.
    per_page
        Test the mean per page (linearised) of those who came instead of the sum per person of everybody.
    seed
        Of the splits: each person is tossed into one of two arms, as in an experiment.
    """
    people = viewer_totals(records)
    if not per_page:
        return split_p_values(people[measure].to_numpy(), None, n_splits=n_splits, seed=seed)
    came = people.filter(pl.col("n_pages") > 0)
    return split_p_values(came[measure].to_numpy(), came["n_pages"].to_numpy(), n_splits=n_splits, seed=seed)


def split_p_values(values: Floats, per: Floats | None = None, *, n_splits: int, seed: int) -> Floats:
    """Return Welch p-values of random splits, shape (n_splits,).

    Parameters
    ----------
    values, per
        One sum per person, and what it is divided by (None: mean per person), shape (n,).

    Raises
    ------
    MillraceError
        If there are fewer than ten people: some splits would leave an arm empty.
    """
    x = np.asarray(values, dtype=np.float64)
    y = np.ones(len(x)) if per is None else np.asarray(per, dtype=np.float64)
    if len(x) < 10:
        raise MillraceError("people", value=len(x), problem="are too few to split", remedy="run a larger world")
    # Centred, so that sums of squares lose no digits; the centre is given back to no one: only differences count.
    x = x - x.sum() / y.sum() * y
    columns = np.stack([np.ones(len(x)), x, y, x * x, x * y, y * y], axis=1)
    whole = columns.sum(axis=0)
    rng = np.random.default_rng(seed)
    at_once = max(_CELLS_AT_ONCE // len(x), 1)
    found = []
    for first in range(0, n_splits, at_once):
        n = min(at_once, n_splits - first)
        tossed = rng.integers(0, 2, size=(n, len(x)), dtype=np.int8).astype(np.float64)
        sums = tossed @ columns
        found.append(_welch(sums, whole - sums))
    return np.concatenate(found) if found else np.zeros(0)


def uniformity(p_values: Floats) -> Uniformity:
    """Return whether p-values look uniform."""
    known = p_values[np.isfinite(p_values)]
    if not len(known):
        nan = float("nan")
        return Uniformity(n=0, statistic=nan, p_value=nan, rejected_frac=nan)
    test = require("scipy.stats").kstest(known, "uniform")
    return Uniformity(
        n=len(known),
        statistic=float(test.statistic),
        p_value=float(test.pvalue),
        rejected_frac=float((known < 0.05).mean()),
    )


def _welch(one: Floats, other: Floats) -> Floats:
    mean_1, var_1, n_1 = _ratio_and_variance(one)
    mean_2, var_2, n_2 = _ratio_and_variance(other)
    variance = var_1 + var_2
    below = var_1**2 / np.maximum(n_1 - 1, 1) + var_2**2 / np.maximum(n_2 - 1, 1)
    # Where nobody differs from anybody there is no error: t is 0 and p is 1.
    t = np.divide(mean_2 - mean_1, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    df = np.divide(variance**2, below, out=np.ones_like(variance), where=below > 0)
    p: Floats = np.asarray(two_sided_p(t, df), dtype=np.float64)
    return p


def _ratio_and_variance(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """From sums of 1, x, y, x², xy, y² per split, shape (n_splits, 6): x̄/ȳ, its linearised variance, and n."""
    n, x, y, xx, xy, yy = sums.T
    ratio = x / y
    squares = np.maximum(xx - 2 * ratio * xy + ratio**2 * yy, 0.0)
    variance = squares / np.maximum(n - 1, 1) / n / (y / n) ** 2
    return ratio, variance, n
