"""True utility of a feed: what its pages were worth to people, how often they came back, and what annoyed them."""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

from millrace.simulator.judge.intervals import NOTHING, Estimate, as_share, bootstrap_ratio, mean, ratio
from millrace.simulator.judge.tables import DAY_MS, table, viewers
from millrace.simulator.records import RunRecords

MEASURES: Final = ("value", "satisfaction", "did_value", "did_satisfaction")
"""By value weights and as plain satisfaction; expected (examination included), then realised."""


class PerUnit(msgspec.Struct, frozen=True, kw_only=True):
    """One measure by each unit.

    Attributes
    ----------
    page, session, active_day
        Per page, per session, and per day on which a person came.
    viewer
        Per person over the whole run; who never came counts as 0.
    viewer_day
        Per person and day of having an account, whether they came or not: coming back counts here.
    """

    page: Estimate
    session: Estimate
    viewer: Estimate
    active_day: Estimate
    viewer_day: Estimate


class Utility(msgspec.Struct, frozen=True, kw_only=True):
    """How well people were served.

    Attributes
    ----------
    measures
        By name of `MEASURES`.
    sessions_per_viewer_day
        Sessions per person and day of having an account.
    return_frac
        Of the days on which a person came, the share after which they came again within 24 h of the end of the day's
        last session. Days whose 24 h are not over count neither way.
    median_gap_h
        Median hours from the end of a session to the same person's next, over gaps that ended within the run; NaN if
        nobody came twice.
    negatives_per_1000
        Dislikes, mutes, blocks and reports per 1,000 impressions (examined posts).
    """

    n_viewers: int
    n_pages: int
    n_sessions: int
    n_impressions: int
    measures: dict[str, PerUnit]
    sessions_per_viewer_day: Estimate
    return_frac: Estimate
    median_gap_h: float
    negatives_per_1000: Estimate


def utility(records: RunRecords, *, bootstrap_seed: int | None = None) -> Utility:
    """Return how well people were served, with intervals by viewer.

    Parameters
    ----------
    bootstrap_seed
        Intervals by a bootstrap over people with this seed; None: t intervals.
    """

    def rate(frame: pl.DataFrame, top: str, bottom: str) -> Estimate:
        numerator, denominator = frame[top].to_numpy(), frame[bottom].to_numpy()
        if bootstrap_seed is None:
            return ratio(numerator, denominator)
        return bootstrap_ratio(numerator, denominator, seed=bootstrap_seed)

    people = _totals(records)
    came = people.filter(pl.col("n_pages") > 0)
    gaps = _gaps(records)
    returns = (
        gaps.filter(pl.col("is_last_of_day") & pl.col("is_over"))
        .group_by("viewer")
        .agg(returned=pl.col("is_back").sum().cast(pl.Float64), days=pl.len().cast(pl.Float64))
        .sort("viewer")
    )
    gap = gaps["gap_ms"].median()
    return Utility(
        n_viewers=len(came),
        n_pages=int(people["n_pages"].sum()),
        n_sessions=int(people["n_sessions"].sum()),
        n_impressions=int(people["n_examined"].sum()),
        measures={
            measure: PerUnit(
                page=rate(came, measure, "n_pages"),
                session=rate(came, measure, "n_sessions"),
                viewer=mean(people[measure].to_numpy()),
                active_day=rate(came, measure, "n_days"),
                viewer_day=rate(people, measure, "days_present"),
            )
            for measure in MEASURES
        },
        sessions_per_viewer_day=rate(people, "n_sessions", "days_present"),
        return_frac=as_share(rate(returns, "returned", "days")) if len(returns) else NOTHING,
        median_gap_h=float(gap) / 3_600_000 if isinstance(gap, int | float) else float("nan"),
        negatives_per_1000=rate(came.with_columns(pl.col("n_negative") * 1000.0), "n_negative", "n_examined"),
    )


def utility_over_time(records: RunRecords, bucket_ms: int = DAY_MS) -> pl.DataFrame:
    """Return how utility went, one row per bucket of virtual time in which a page was fetched.

    Returns
    -------
    polars.DataFrame
        ``start_ms``, ``n_pages``, ``n_viewers``, then by measure of `MEASURES` its mean per page, and for ``value`` and
        ``satisfaction`` ``<measure>_per_viewer`` (per person who came in the bucket).
    """
    began = records.meta.began_ms
    bucket = (pl.col("time_ms") - began) // bucket_ms * bucket_ms + began
    return (
        table(records, "pages")
        .group_by(bucket.alias("start_ms"))
        .agg(
            pl.len().alias("n_pages"),
            pl.col("viewer").n_unique().alias("n_viewers"),
            pl.col(*MEASURES).mean(),
            *(
                (pl.col(measure).sum() / pl.col("viewer").n_unique()).alias(f"{measure}_per_viewer")
                for measure in ("value", "satisfaction")
            ),
        )
        .sort("start_ms")
    )


def viewer_totals(records: RunRecords) -> pl.DataFrame:
    """Return the sums of everybody who might have come, zeros where they did not, sorted by ``viewer``.

    Returns
    -------
    polars.DataFrame
        The columns of `millrace.simulator.judge.tables.viewers`, `MEASURES` and ``n_pages``, ``n_sessions``,
        ``n_days``, ``n_examined``, ``n_negative`` (all float64).
    """
    return _totals(records)


def _totals(records: RunRecords) -> pl.DataFrame:
    began = records.meta.began_ms
    counts = ("n_pages", "n_sessions", "n_days", "n_examined", "n_negative")
    sums = (
        table(records, "pages")
        .sort("page")
        .group_by("viewer")
        .agg(
            *(pl.col(measure).sum() for measure in MEASURES),
            pl.len().alias("n_pages"),
            pl.col("session").n_unique().alias("n_sessions"),
            ((pl.col("time_ms") - began) // DAY_MS).n_unique().alias("n_days"),
            pl.col("n_examined", "n_negative").cast(pl.Int64).sum(),
        )
    )
    columns = (*MEASURES, *counts)
    joined = viewers(records).join(sums, on="viewer", how="left", maintain_order="left")
    return joined.with_columns(pl.col(*columns).fill_null(0).cast(pl.Float64))


def _gaps(records: RunRecords) -> pl.DataFrame:
    """One row per session: the time to the same person's next, and whether 24 h after it are over."""
    meta = records.meta
    return (
        table(records, "sessions")
        .sort("viewer", "started_ms", "session")
        .with_columns(
            gap_ms=pl.col("started_ms").shift(-1).over("viewer") - pl.col("ended_ms"),
            day=(pl.col("ended_ms") - meta.began_ms) // DAY_MS,
        )
        .with_columns(
            is_last_of_day=(pl.col("day").shift(-1).over("viewer") != pl.col("day")).fill_null(value=True),
            is_over=pl.col("ended_ms") + DAY_MS <= meta.ended_ms,
            is_back=(pl.col("gap_ms") <= DAY_MS).fill_null(value=False),
        )
    )
