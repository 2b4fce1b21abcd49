"""How soon a newcomer is understood: a new author's predicted like rate, and a new viewer's pages.

*New* is who joined during the run. Where something was not reached by the end of the run, that is what is said: an
unreached time is None, and medians over people count the unreached as later than everybody who got there.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import polars as pl

from millrace.simulator.judge.intervals import Estimate, Floats, ratio_by
from millrace.simulator.judge.tables import DAY_MS, HOUR_MS, is_new, table
from millrace.simulator.records import RunRecords

AUTHOR_HOURS: Final = (0, 1, 2, 4, 8, 16, 24, 48, 96)
VIEWER_HOURS: Final = (0, 1, 6, 12, 24, 48, 96)
VIEWER_PAGES: Final = (0, 1, 2, 4, 8, 16, 32, 64)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of a newcomer's time, from ``start`` (hours or pages since the first) to the next step's."""

    start: float
    ratio: Estimate


class NewAuthors(msgspec.Struct, frozen=True, kw_only=True):
    """How soon new authors' predicted like rate comes right.

    Attributes
    ----------
    n_judged
        New authors with enough predictions to fill a window; of ``n_new`` who posted.
    n_right
        Of the judged, those whose rate has come right and stayed so until the end.
    hours
        Median over the judged, in hours since the first post; None where fewer than half have come right.
    curve
        Predicted over true like rate of all new authors, by hours since each one's first post.
    """

    n_new: int
    n_judged: int
    n_right: int
    hours: float | None
    curve: tuple[Step, ...]


class NewViewers(msgspec.Struct, frozen=True, kw_only=True):
    """How soon new viewers are served as well as the others.

    Attributes
    ----------
    hours, pages
        Since the first page, until the new viewers' pages have reached ``target`` of the older viewers' and stay
        there; None where that is not so by the end of the run.
    value_by_hours, value_by_pages
        True value per page of new viewers over that of older ones on the same virtual day; steps in which the older
        ones' is not above 0 are left out.
    served_by_pages
        Share of the best page that new viewers were served, over the same share of older ones (from the sample that
        was held against the oracle): unlike value, it does not depend on tastes that are easier to please.
    """

    n_new: int
    target: float
    hours: float | None
    pages: float | None
    value_by_hours: tuple[Step, ...]
    value_by_pages: tuple[Step, ...]
    served_by_pages: tuple[Step, ...]


def new_authors(records: RunRecords, *, window: int = 50, tolerance_frac: float = 0.2) -> NewAuthors:
    """Return how soon the scores of new authors come right.

    Parameters
    ----------
    window
        Served posts of the author over which predicted and true like rates are averaged; it moves.
    tolerance_frac
        Right is within so much of the true rate.
    """
    served = _served_of_new_authors(records)
    n_new = _first_posts(records).height
    windows = (
        served.with_columns(
            n=pl.int_range(pl.len()).over("author") + 1,
            rate=pl.col("predicted").rolling_mean(window).over("author")
            / pl.col("true").rolling_mean(window).over("author"),
        )
        .filter(pl.col("n") >= window)
        .with_columns(is_wrong=~((pl.col("rate") - 1).abs() <= tolerance_frac))
    )
    # Right from the first window after the last wrong one; never, if the last window is wrong.
    since = windows.with_columns(wrong_after=pl.col("is_wrong").cum_sum(reverse=True).over("author"))
    right = since.filter(pl.col("wrong_after") == 0).group_by("author").agg(pl.col("since_ms").min())["since_ms"]
    n_judged = windows["author"].n_unique()
    return NewAuthors(
        n_new=n_new,
        n_judged=n_judged,
        n_right=len(right),
        hours=_median_of_reached(right.to_numpy() / HOUR_MS, n_judged),
        curve=_steps(served, "since_ms", AUTHOR_HOURS, "predicted", "true", "author"),
    )


def new_viewers(records: RunRecords, *, target: float = 0.9, min_people: int = 5) -> NewViewers:
    """Return how soon new viewers' pages are worth what older viewers' pages are.

    Parameters
    ----------
    target
        Share of the older viewers' value that counts as reached.
    min_people
        Steps with fewer people tell nothing about whether it was reached; they are shown all the same.
    """
    pages = _pages_since_first(records)
    new = pages.filter("is_new")
    old = pages.filter(~pl.col("is_new"))
    usual = old.group_by("day").agg(usual=pl.col("value").mean())
    valued = new.join(usual, on="day").sort("page")
    held = table(records, "regret").select("page", "served", "best_all").join(pages, on="page").sort("page")
    old_held = held.filter(~pl.col("is_new"))
    best = float(old_held["best_all"].sum())
    share = float(old_held["served"].sum()) / best if best else math.nan
    new_held = held.filter("is_new").with_columns(usual=pl.col("best_all") * share)
    by_hours = _steps(valued, "since_ms", VIEWER_HOURS, "value", "usual", "viewer")
    by_pages = _steps(valued, "number", VIEWER_PAGES, "value", "usual", "viewer")
    return NewViewers(
        n_new=new["viewer"].n_unique(),
        target=target,
        hours=reached(by_hours, target, min_people),
        pages=reached(by_pages, target, min_people),
        value_by_hours=by_hours,
        value_by_pages=by_pages,
        served_by_pages=_steps(new_held, "number", VIEWER_PAGES, "served", "usual", "viewer"),
    )


def reached(steps: tuple[Step, ...], target: float, min_people: int = 1) -> float | None:
    """Return the start of the first step from which all ratios are at least ``target``; None if the last is not."""
    start = None
    for step in reversed([step for step in steps if step.ratio.n >= min_people]):
        if not step.ratio.value >= target:
            break
        start = step.start
    return start


def _first_posts(records: RunRecords) -> pl.DataFrame:
    users = table(records, "users").filter(is_new(records.meta) & ~pl.col("is_spammer"))
    posts = table(records, "posts").filter(pl.col("author").is_in(users["user"].implode()))
    return posts.group_by("author").agg(first_ms=pl.col("created_ms").min()).sort("author")


def _served_of_new_authors(records: RunRecords) -> pl.DataFrame:
    """Served posts of new authors with a prediction, by time: ``author``, ``since_ms``, ``predicted``, ``true``."""
    times = table(records, "pages").select("page", "time_ms")
    return (
        table(records, "items")
        .filter(pl.col("pred_like").is_finite())
        .join(_first_posts(records), on="author")
        .join(times, on="page")
        .sort("author", "time_ms", "page", "position")
        .select(
            "author",
            since_ms=pl.col("time_ms") - pl.col("first_ms"),
            predicted=pl.col("pred_like").cast(pl.Float64),
            true=pl.col("true_like").cast(pl.Float64),
        )
    )


def _pages_since_first(records: RunRecords) -> pl.DataFrame:
    began = records.meta.began_ms
    joined = table(records, "users").select(viewer=pl.col("user"), is_new=is_new(records.meta))
    return (
        table(records, "pages")
        .join(joined, on="viewer")
        .sort("viewer", "time_ms", "page")
        .select(
            "page",
            "viewer",
            "is_new",
            "value",
            number=pl.int_range(pl.len()).over("viewer"),
            since_ms=pl.col("time_ms") - pl.col("time_ms").min().over("viewer"),
            day=(pl.col("time_ms") - began) // DAY_MS,
        )
    )


def _steps(
    frame: pl.DataFrame, time: str, starts: tuple[int, ...], numerator: str, denominator: str, key: str
) -> tuple[Step, ...]:
    # Times stay whole milliseconds: hours would be rounded, and a page of exactly one hour would fall before it.
    unit = HOUR_MS if time == "since_ms" else 1
    step = np.searchsorted(np.array(starts) * unit, frame[time].to_numpy(), side="right") - 1
    numbered = frame.with_columns(_step=pl.Series(step, dtype=pl.Int64))
    steps = []
    for i, start in enumerate(starts):
        part = numbered.filter(pl.col("_step") == i)
        # Beside others who are worse off than with nothing, a ratio would call the worse the better.
        if len(part) and float(part[denominator].sum()) > 0:
            steps.append(Step(start=float(start), ratio=ratio_by(part, numerator, denominator, key)))
    return tuple(steps)


def _median_of_reached(hours: Floats, n_judged: int) -> float | None:
    if not n_judged:
        return None
    everybody = np.concatenate([np.sort(hours), np.full(n_judged - len(hours), math.inf)])
    middle = float(everybody[(n_judged - 1) // 2])
    return middle if math.isfinite(middle) else None
