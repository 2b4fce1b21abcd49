"""Are predictions true? What the feed predicted beside the probability that the world would really act with.

There is no noise of clicks in it: each prediction is held against the probability itself, on every served post.
Posts for which the feed predicted nothing (NaN) are counted and left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import polars as pl

from millrace.simulator.judge.intervals import Estimate, ratio
from millrace.simulator.judge.tables import HOUR_MS, table, viewers
from millrace.simulator.records import RunMeta, RunRecords

EVERYTHING: Final = "all"
AGES: Final = (("under 1 h", 1), ("1 to 6 h", 6), ("6 to 24 h", 24))
_OLDER: Final = "over 24 h"
_SEED: Final = 20_240_501


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the predictions, next to each other in size: their means and how many they are."""

    predicted: float
    true: float
    n: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """One action in one slice.

    Attributes
    ----------
    slice
        `EVERYTHING`, or ``"<kind of slice>=<name>"``.
    ratio
        Mean predicted over mean true, by viewer; 1 is right, NaN where nothing was predicted.
    mse
        Mean squared error of the probability.
    rank_correlation
        Spearman's, of predicted with true; NaN where one of them is constant.
    n, n_missing
        Posts with and without a prediction.
    bins
        Of equal counts, ascending; only for `EVERYTHING`.
    """

    action: str
    slice: str
    ratio: Estimate
    predicted: float
    true: float
    mse: float
    rank_correlation: float
    n: int
    n_missing: int
    bins: tuple[Bin, ...] = ()


def calibration(
    records: RunRecords,
    actions: Sequence[str] | None = None,
    *,
    n_bins: int = 10,
    max_ranked: int = 10_000,
) -> tuple[Calibration, ...]:
    """Return the calibration of every action, over everything and in every slice that was served.

    Parameters
    ----------
    actions
        Names; None: all of the run's.
    n_bins
        Of the reliability curve.
    max_ranked
        The rank correlation is taken over a sample of at most so many posts (seeded): ranking costs a sort each.
    """
    names = records.meta.actions if actions is None else tuple(actions)
    items = sliced_items(records).with_columns(by_all=pl.lit(EVERYTHING))
    parts: dict[str, dict[str, Calibration]] = {name: {} for name in names}
    for column in (column for column in items.columns if column.startswith("by_")):
        sums = items.group_by(column, "viewer").agg(pl.len().alias("n"), *_sums(names)).sort(column, "viewer")
        sampled = {part[column][0]: part for part in items.partition_by(column)}
        for part in sums.partition_by(column, maintain_order=True):
            label = part[column][0]
            ranks = _rank_correlations(sampled[label], names, max_ranked)
            title = EVERYTHING if column == "by_all" else f"{column.removeprefix('by_')}={label}"
            for name in names:
                parts[name][title] = _one(part, name, title, ranks[name])
    return tuple(
        msgspec.structs.replace(part, bins=_bins(items, name, n_bins)) if title == EVERYTHING else part
        for name in names
        for title, part in sorted(parts[name].items(), key=lambda pair: (pair[0] != EVERYTHING, pair[0]))
    )


def sliced_items(records: RunRecords) -> pl.DataFrame:
    """Return ``items`` with a column of names per kind of slice: ``by_<kind>``, as `describe_slices` says."""
    meta = records.meta
    is_new = viewers(records).select(pl.col("viewer").cast(pl.Int32), "is_new")
    age = pl.lit(_OLDER)
    for label, hours in reversed(AGES):
        age = pl.when(pl.col("age_ms") < hours * HOUR_MS).then(pl.lit(label)).otherwise(age)
    return (
        table(records, "items")
        .join(is_new, on="viewer", how="left", maintain_order="left")
        .with_columns(
            by_language=_named("language", meta.languages),
            by_network=pl.when("is_followed").then(pl.lit("in")).otherwise(pl.lit("out")),
            by_kind=_named("kind", meta.kinds),
            by_viewer=pl.when(pl.col("is_new").fill_null(value=False)).then(pl.lit("new")).otherwise(pl.lit("old")),
            by_age=age,
        )
        .drop("is_new")
    )


def has_predictions(records: RunRecords) -> bool:
    """Return whether the feed predicted anything at all."""
    items = table(records, "items")
    return any(items[f"pred_{action}"].is_finite().any() for action in records.meta.actions)


def _named(column: str, names: tuple[str, ...]) -> pl.Expr:
    codes = list(range(len(names)))
    return pl.col(column).replace_strict(codes, list(names), default="unknown", return_dtype=pl.String)


def _known(name: str) -> tuple[pl.Expr, pl.Expr]:
    """Predicted and true probabilities of the posts for which there is a prediction."""
    predicted = pl.col(f"pred_{name}").cast(pl.Float64)
    is_known = predicted.is_finite().fill_null(value=False)
    return predicted.filter(is_known), pl.col(f"true_{name}").cast(pl.Float64).filter(is_known)


def _sums(names: Sequence[str]) -> list[pl.Expr]:
    sums = []
    for name in names:
        predicted, true = _known(name)
        sums += [
            predicted.len().alias(f"n_{name}"),
            predicted.sum().alias(f"predicted_{name}"),
            true.sum().alias(f"true_{name}"),
            ((predicted - true) ** 2).sum().alias(f"squared_{name}"),
        ]
    return sums


def _one(sums: pl.DataFrame, action: str, title: str, rank_correlation: float) -> Calibration:
    """From one row per viewer."""
    n = int(sums[f"n_{action}"].sum())
    predicted, true, squared = (
        float(sums[f"{what}_{action}"].sum()) / n if n else math.nan for what in ("predicted", "true", "squared")
    )
    having = sums.filter(pl.col(f"n_{action}") > 0)
    return Calibration(
        action=action,
        slice=title,
        ratio=ratio(having[f"predicted_{action}"].to_numpy(), having[f"true_{action}"].to_numpy()),
        predicted=predicted,
        true=true,
        mse=squared,
        rank_correlation=rank_correlation,
        n=n,
        n_missing=int(sums["n"].sum()) - n,
    )


def _rank_correlations(items: pl.DataFrame, names: Sequence[str], max_ranked: int) -> dict[str, float]:
    if len(items) > max_ranked:
        items = items.sample(max_ranked, seed=_SEED)
    row = items.select(pl.corr(*_known(name), method="spearman").alias(name) for name in names).row(0, named=True)
    return {name: math.nan if value is None else float(value) for name, value in row.items()}


def _bins(items: pl.DataFrame, action: str, n_bins: int) -> tuple[Bin, ...]:
    predicted, true = (items.select(values).to_series().to_numpy() for values in _known(action))
    order = np.argsort(predicted, kind="stable")
    return tuple(
        Bin(predicted=float(predicted[rows].mean()), true=float(true[rows].mean()), n=len(rows))
        for rows in np.array_split(order, n_bins)
        if len(rows)
    )


def describe_slices(meta: RunMeta) -> dict[str, str]:
    """Return what each kind of slice means, by its name."""
    return {
        "language": f"of the post ({', '.join(meta.languages)})",
        "network": "in: the viewer follows the author",
        "kind": f"of the post ({', '.join(meta.kinds)})",
        "viewer": "new: joined during the run",
        "age": "of the post when served",
    }
