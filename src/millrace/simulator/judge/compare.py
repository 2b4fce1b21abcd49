"""What a change did: exactly, by twin worlds, or as an A/B test in one world would have it.

Twins are two runs of one world (same people, same draws) under two feeds: each person's difference is the change's own
doing. In one run with two arms, both arms share authors, posts and each other's engagement, so that a naive test can be
off: `interference` says by how much.
"""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

from millrace.base.errors import MillraceError
from millrace.simulator.judge.effects import (
    Effect,
    apart,
    paired_effect,
    paired_ratio_effect,
    split_effect,
    split_ratio_effect,
)
from millrace.simulator.judge.intervals import Estimate
from millrace.simulator.judge.slices import SliceEffect, slice_effects
from millrace.simulator.judge.tables import viewers
from millrace.simulator.judge.utility import viewer_totals
from millrace.simulator.records import RunRecords

ALPHA: Final = 0.05


class TwinEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did, by twins.

    Attributes
    ----------
    per_viewer, per_page
        On the sum over the run per person, and on the mean per page.
    slices
        On the sum per person, in every slice with at least five people; those with the smallest p-value first.
    """

    measure: str
    per_viewer: Effect
    per_page: Effect
    slices: tuple[SliceEffect, ...]

    @property
    def harmed(self) -> tuple[str, ...]:
        """Slices that are significantly worse off, the surest first."""
        return tuple(part.slice for part in self.slices if part.is_harmed)


class Interference(msgspec.Struct, frozen=True, kw_only=True):
    """How far a naive A/B test was off.

    Attributes
    ----------
    twin, ab
        Relative effects.
    difference
        ``ab - twin``, their errors taken as independent.
    """

    twin: Estimate
    ab: Estimate
    difference: Estimate
    p_value: float


def viewer_differences(before: RunRecords, after: RunRecords, measure: str = "value") -> pl.DataFrame:
    """Return the twins' totals, one row per person of both worlds, sorted by ``viewer``.

    Returns
    -------
    polars.DataFrame
        The columns of `viewers`, ``before``, ``after``, ``difference`` (sums of the measure over the run),
        ``before_pages``, ``after_pages`` (float64).

    Raises
    ------
    MillraceError
        If the runs do not tell of the same people.
    """
    old, new = viewer_totals(before), viewer_totals(after)
    columns = ["viewer", "language", "joined_ms"]
    known = all(set(columns) <= set(frame.columns) for frame in (old, new))
    if (
        known
        and not old.join(new, on="viewer")
        .filter((pl.col("language") != pl.col("language_right")) | (pl.col("joined_ms") != pl.col("joined_ms_right")))
        .is_empty()
    ):
        raise MillraceError(
            "twin runs",
            problem="the same number is another person in each of them",
            remedy="compare runs of one world: same size, seed and mechanism",
        )
    pairs = old.rename({measure: "before", "n_pages": "before_pages"}).join(
        new.select("viewer", pl.col(measure).alias("after"), pl.col("n_pages").alias("after_pages")), on="viewer"
    )
    if pairs.is_empty():
        raise MillraceError(
            "twin runs",
            problem="nobody is in both of them",
            remedy="compare runs of one world: same size, seed and mechanism",
        )
    keep = [column for column in viewers(before).columns if column in pairs.columns]
    return pairs.select(
        *keep,
        "before",
        "after",
        (pl.col("after") - pl.col("before")).alias("difference"),
        "before_pages",
        "after_pages",
    ).sort("viewer")


def twin_effect(before: RunRecords, after: RunRecords, measure: str = "value", *, alpha: float = ALPHA) -> TwinEffect:
    """Return what a change did: everybody's outcome in the one world beside their own in its twin.

    Parameters
    ----------
    before, after
        Runs of twin worlds.
    measure
        One of `millrace.simulator.judge.utility.MEASURES`.
    alpha
        Level of significance for the slices, all together.
    """
    pairs = viewer_differences(before, after, measure)
    columns = [pairs[name].to_numpy() for name in ("before", "before_pages", "after", "after_pages")]
    return TwinEffect(
        measure=measure,
        per_viewer=paired_effect(columns[0], columns[2]),
        per_page=paired_ratio_effect(*columns),
        slices=slice_effects(pairs, before.meta.languages, alpha),
    )


def ab_effect(
    records: RunRecords,
    measure: str = "value",
    *,
    control: int | str = 0,
    treatment: int | str = 1,
    per_page: bool = False,
) -> Effect:
    """Return what an A/B test would say: people of one arm beside those of another, by Welch's t test.

    Parameters
    ----------
    control, treatment
        Arms, by code or name.
    per_page
        On the mean per page (surer, and blind to coming back) instead of the sum per person.

    Raises
    ------
    MillraceError
        If the run has no such arm.
    """
    people = viewer_totals(records)
    one, other = (people.filter(pl.col("arm") == _arm(records, arm)) for arm in (control, treatment))
    if not per_page:
        return split_effect(one[measure].to_numpy(), other[measure].to_numpy())
    return split_ratio_effect(
        one[measure].to_numpy(), one["n_pages"].to_numpy(), other[measure].to_numpy(), other["n_pages"].to_numpy()
    )


def interference(twin: TwinEffect | Effect, ab: Effect) -> Interference:
    """Return how far the naive A/B estimate is from the true effect.

    Parameters
    ----------
    twin
        The true effect: of the sum per person, unless one `Effect` of it is given.
    ab
        The estimate, of the same thing.
    """
    truth = (twin.per_viewer if isinstance(twin, TwinEffect) else twin).relative
    difference, p = apart(ab.relative, truth)
    return Interference(twin=truth, ab=ab.relative, difference=difference, p_value=p)


def _arm(records: RunRecords, arm: int | str) -> int:
    arms = records.meta.arms
    if arm in arms:
        return arms.index(str(arm))
    if isinstance(arm, int) and 0 <= arm < len(arms):
        return arm
    raise MillraceError("arm", value=arm, problem="is not in this run", remedy=f"use one of {', '.join(arms)}")
