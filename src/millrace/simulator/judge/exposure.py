"""Are creators heard? How impressions are shared among authors, and who gets a first hearing within a day.

An impression is a served post that was examined. A *good* impression is one whose viewer truly likes it
(``liking > 0.5``). A post *is heard* if it has at least ten good impressions within 24 h after it was published; an
author is heard if one of their posts is. Only posts whose 24 h lie wholly within the run are asked; replies and
reposts are not (a feed seldom shows the first, and the second shows somebody else's post). Spammers are no creators:
their share of impressions is told apart.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from millrace.simulator.judge.intervals import Estimate, Floats, as_share, mean, mean_by
from millrace.simulator.judge.tables import DAY_MS, is_new, table
from millrace.simulator.records import RunRecords

HEARD_IMPRESSIONS: Final = 10
GOOD_LIKING: Final = 0.5
_REACH_MS: Final = 2 * DAY_MS
"""Posts of up to 48 h before the run can be shown in it: their authors count among those who posted."""

_SECONDARY: Final = ("reply", "repost")


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """How many get a first hearing.

    Attributes
    ----------
    posts
        Share of posts that are heard, by author.
    authors
        Share of authors of such posts of whom one is heard.
    """

    posts: Estimate
    authors: Estimate
    n_posts: int
    n_authors: int


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """How impressions are shared among creators.

    Attributes
    ----------
    gini
        Of impressions over authors who posted; 0: all alike, near 1: one has everything; NaN without impressions.
    top_1_frac
        Share of impressions of the 1 % of authors who have most (at least one author).
    unseen_frac
        Share of authors who posted and had no impression at all.
    spam_frac
        Share of all impressions that went to spammers' posts.
    lorenz
        Share of impressions of the least seen k % of authors, k = 0 ... 100: 101 numbers; empty without impressions.
    new_authors, other_authors
        Joined during the run, or before.
    """

    n_authors: int
    n_impressions: int
    gini: float
    top_1_frac: float
    unseen_frac: float
    spam_frac: float
    lorenz: tuple[float, ...]
    heard: Heard
    new_authors: Heard
    other_authors: Heard


def exposure(records: RunRecords) -> Exposure:
    """Return how impressions are shared among creators."""
    users = table(records, "users").select(
        author=pl.col("user"), is_spammer=pl.col("is_spammer"), is_new=is_new(records.meta)
    )
    seen = table(records, "items").filter("is_examined")
    posts = (
        table(records, "posts")
        .join(users, on="author", how="left")
        .with_columns(pl.col("is_spammer", "is_new").fill_null(value=False))
    )
    per_author = _impressions_by_author(records, posts, seen)
    counts = per_author["n"].to_numpy().astype(np.float64)
    spammers = users.filter("is_spammer")["author"]
    n_spam = int(seen["author"].is_in(spammers.implode()).sum())
    heard = _heard(records, posts, seen)
    n_top = max(math.ceil(len(counts) / 100), 1)
    total = float(counts.sum())
    return Exposure(
        n_authors=len(counts),
        n_impressions=int(total),
        gini=gini(counts),
        top_1_frac=float(np.sort(counts)[::-1][:n_top].sum()) / total if total else math.nan,
        unseen_frac=float((counts == 0).mean()) if len(counts) else math.nan,
        spam_frac=n_spam / len(seen) if len(seen) else math.nan,
        lorenz=lorenz(counts),
        heard=_shares(heard),
        new_authors=_shares(heard.filter("is_new")),
        other_authors=_shares(heard.filter(~pl.col("is_new"))),
    )


def gini(counts: npt.ArrayLike) -> float:
    """Return the Gini coefficient of amounts, 0 for equal ones, (n - 1) / n if one has everything; NaN of nothing."""
    x = np.sort(np.asarray(counts, dtype=np.float64))
    n, total = len(x), float(x.sum())
    if not total:
        return math.nan
    rank = np.arange(1, n + 1)
    # Rounding may leave the sum a hair below 0 where all are alike.
    return max(float(((2 * rank - n - 1) * x).sum()) / (n * total), 0.0)


def lorenz(counts: npt.ArrayLike, n_points: int = 101) -> tuple[float, ...]:
    """Return the share of the total that the least k-th part has, at ``n_points`` equal steps; empty of nothing."""
    x = np.sort(np.asarray(counts, dtype=np.float64))
    if not x.sum():
        return ()
    cumulative: Floats = np.concatenate([[0.0], np.cumsum(x)]) / x.sum()
    at = np.interp(np.linspace(0, len(x), n_points), np.arange(len(x) + 1), cumulative)
    return tuple(float(share) for share in at)


def _impressions_by_author(records: RunRecords, posts: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    meta = records.meta
    posted = posts.filter(
        pl.col("created_ms").is_between(meta.began_ms - _REACH_MS, meta.ended_ms, closed="left") & ~pl.col("is_spammer")
    )
    authors = posted.select(pl.col("author").cast(pl.Int32)).unique()
    counts = seen.group_by(pl.col("author").cast(pl.Int32)).agg(n=pl.len())
    return authors.join(counts, on="author", how="left").with_columns(pl.col("n").fill_null(0)).sort("author")


def _heard(records: RunRecords, posts: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """One row per post whose first day lies within the run: ``author``, ``is_new``, ``is_heard``."""
    meta = records.meta
    left_out = [code for code, kind in enumerate(meta.kinds) if kind in _SECONDARY]
    asked = posts.filter(
        pl.col("created_ms").is_between(meta.began_ms, meta.ended_ms - DAY_MS)
        & ~pl.col("is_spammer")
        & ~pl.col("kind").is_in(left_out)
    )
    good = (
        seen.filter((pl.col("liking") > GOOD_LIKING) & (pl.col("age_ms") <= DAY_MS))
        .group_by(pl.col("post").cast(pl.Int64))
        .agg(n_good=pl.len())
    )
    return (
        asked.with_columns(pl.col("post").cast(pl.Int64))
        .join(good, on="post", how="left")
        .select("author", "is_new", is_heard=pl.col("n_good").fill_null(0) >= HEARD_IMPRESSIONS)
        .sort("author")
    )


def _shares(heard: pl.DataFrame) -> Heard:
    authors = heard.group_by("author").agg(pl.col("is_heard").any()).sort("author")
    return Heard(
        posts=as_share(mean_by(heard, "is_heard", key="author")),
        authors=as_share(mean(authors["is_heard"].to_numpy())),
        n_posts=len(heard),
        n_authors=len(authors),
    )
