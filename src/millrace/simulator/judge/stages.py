"""Whom to blame: which stage of a broken feed lost significantly more than it does in a healthy one.

Two kinds of evidence. A rule that is broken more often is the filters' doing, whatever the pages are worth: posts that
must not be shown can be worth a lot. Otherwise the stage is blamed whose share of the best page grew the most, among
those that grew significantly.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import polars as pl

from millrace.simulator.judge.effects import Effect, apart, p_value, paired_ratio_effect
from millrace.simulator.judge.intervals import Estimate, holm, ratio
from millrace.simulator.judge.regret import STAGES, viewer_losses
from millrace.simulator.judge.tables import RULES, table
from millrace.simulator.records import RunRecords

ALPHA: Final = 0.01
MIN_LOSS_FRAC: Final = 0.005
"""A stage that lost less than half a per cent more of the best page is not called broken, however sure that is."""


class StageChange(msgspec.Struct, frozen=True, kw_only=True):
    """How a stage, or a rule, changed from the healthy run to the broken one.

    Attributes
    ----------
    name
        Of `millrace.simulator.judge.regret.STAGES`, or of `millrace.simulator.judge.tables.RULES`.
    healthy, broken
        A stage: lost share of the best page. A rule: posts that break it per 1,000 served.
    change
        ``broken - healthy``.
    p_adjusted
        Two-sided, by Holm over the stages (over the rules).
    is_worse
        Whether it grew significantly.
    """

    name: str
    healthy: float
    broken: float
    change: Estimate
    p_adjusted: float
    is_worse: bool


class Blame(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict and its evidence.

    Attributes
    ----------
    stage
        ``"retrieval"``, ``"filters"``, ``"pre-ranking"``, ``"ranking"``, ``"re-ranking"``, ``"filters: let through
        <rule>"``; None: nothing got significantly worse.
    stages, rules
        All that was compared, in the order of the pipeline.
    """

    stage: str | None
    stages: tuple[StageChange, ...]
    rules: tuple[StageChange, ...]


def blame(
    broken: RunRecords,
    healthy: RunRecords,
    *,
    twins: bool = False,
    alpha: float = ALPHA,
    min_loss_frac: float = MIN_LOSS_FRAC,
) -> Blame:
    """Return the stage that got worse significantly the most.

    Parameters
    ----------
    twins
        The runs are of one world: people are compared with themselves (those whose pages were held against the oracle
        in both), which finds smaller faults.
    alpha
        Level of significance, over all stages together, and over all rules.
    min_loss_frac
        A stage's loss must have grown by this share of the best page at least.
    """
    losses = [viewer_losses(run) for run in (healthy, broken)]
    shown = [_broken_by_viewer(run) for run in (healthy, broken)]
    stages = _changes(STAGES, losses, "best_all", 1.0, twins=twins, alpha=alpha, least=min_loss_frac)
    rules = _changes(RULES, shown, "n_items", 1000.0, twins=twins, alpha=alpha, least=0.0)
    worse_rules = [change for change in rules if change.is_worse]
    worse_stages = [change for change in stages if change.is_worse]
    if worse_rules:
        stage: str | None = f"filters: let through {max(worse_rules, key=_growth).name}"
    else:
        stage = max(worse_stages, key=_growth).name if worse_stages else None
    return Blame(stage=stage, stages=stages, rules=rules)


def _changes(
    names: tuple[str, ...],
    frames: list[pl.DataFrame],
    per: str,
    scale: float,
    *,
    twins: bool,
    alpha: float,
    least: float,
) -> tuple[StageChange, ...]:
    compare = _paired if twins else _unpaired
    found = [compare(frames[0], frames[1], name, per, scale) for name in names]
    adjusted = holm([p for *_, p in found])
    return tuple(
        StageChange(
            name=name,
            healthy=before,
            broken=after,
            change=change,
            p_adjusted=float(p),
            is_worse=bool(p < alpha and change.value > least),
        )
        for name, (before, after, change, _), p in zip(names, found, adjusted, strict=True)
    )


def _unpaired(
    healthy: pl.DataFrame, broken: pl.DataFrame, name: str, per: str, scale: float
) -> tuple[float, float, Estimate, float]:
    before, after = (ratio(frame[name].to_numpy() * scale, frame[per].to_numpy()) for frame in (healthy, broken))
    change, p = apart(after, before)
    return before.value, after.value, change, p


def _paired(
    healthy: pl.DataFrame, broken: pl.DataFrame, name: str, per: str, scale: float
) -> tuple[float, float, Estimate, float]:
    both = healthy.join(broken, on="viewer", suffix="_broken").sort("viewer")
    effect: Effect = paired_ratio_effect(
        both[name].to_numpy() * scale,
        both[per].to_numpy(),
        both[f"{name}_broken"].to_numpy() * scale,
        both[f"{per}_broken"].to_numpy(),
    )
    change = effect.difference
    p = p_value(change.value, change.error, len(both) - 1) if len(both) > 1 else math.nan
    return effect.before, effect.after, change, p


def _broken_by_viewer(run: RunRecords) -> pl.DataFrame:
    counts = [pl.col(f"n_{rule}").cast(pl.Float64).sum().alias(rule) for rule in RULES]
    return table(run, "pages").group_by("viewer").agg(*counts, pl.col("n_items").cast(pl.Float64).sum()).sort("viewer")


def _growth(change: StageChange) -> float:
    return float(np.nan_to_num(change.change.value))
