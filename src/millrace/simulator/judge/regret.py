"""Exact regret, split by stage: how much of the best page was lost where.

``best_all - served`` is the sum of what the stages lost, because each stage's loss is the best page that it was given
minus the best page (or the page) that it passed on. A stage can gain: its loss is then negative. The best pages are a
greedy oracle's; ``bound_all`` says how much better any slate could possibly be.
"""

from __future__ import annotations

from typing import Final

import msgspec
import polars as pl

from millrace.simulator.judge.intervals import NOTHING, Estimate, ratio
from millrace.simulator.judge.tables import table
from millrace.simulator.records import RunRecords

STAGES: Final = ("retrieval", "filters", "pre-ranking", "ranking", "re-ranking")
_LEVELS: Final = ("best_all", "best_retrieved", "best_filtered", "best_preranked", "ranked", "served")


class StageLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage lost.

    Attributes
    ----------
    value
        Expected true value per page.
    frac
        As a share of the best page's value: sum of losses over sum of ``best_all``.
    """

    value: Estimate
    frac: Estimate


class Regret(msgspec.Struct, frozen=True, kw_only=True):
    """What was lost in all and where.

    Attributes
    ----------
    stages
        By name of `STAGES`, in order.
    best, served
        Expected true value of the best page and of the page, per page.
    oracle_gap
        ``bound_all - best_all`` as a share of ``bound_all``: the greedy oracle is at most this far from the best slate.
    """

    n_pages: int
    total: StageLoss
    stages: dict[str, StageLoss]
    best: Estimate
    served: Estimate
    oracle_gap: Estimate


def page_losses(records: RunRecords) -> pl.DataFrame:
    """Return the table ``regret`` with each stage's loss under its name and their sum under ``total``."""
    frame = table(records, "regret").sort("page")
    losses = [
        (pl.col(before) - pl.col(after)).alias(stage)
        for stage, before, after in zip(STAGES, _LEVELS[:-1], _LEVELS[1:], strict=True)
    ]
    return frame.with_columns(*losses, total=pl.col("best_all") - pl.col("served"))


def viewer_losses(records: RunRecords) -> pl.DataFrame:
    """Return sums by ``viewer``: each stage's loss, ``total``, ``best_all``, ``served``, ``bound_all``, ``n_pages``."""
    columns = (*STAGES, "total", "best_all", "served", "bound_all")
    return (
        page_losses(records)
        .group_by("viewer")
        .agg(pl.col(*columns).sum(), pl.len().cast(pl.Float64).alias("n_pages"))
        .sort("viewer")
    )


def regret(records: RunRecords) -> Regret:
    """Return the regret of a run, in all and by stage, with intervals by viewer."""
    sums = viewer_losses(records)
    pages, best = sums["n_pages"].to_numpy(), sums["best_all"].to_numpy()

    def loss(name: str) -> StageLoss:
        lost = sums[name].to_numpy()
        # A share of what is worth nothing, or less, says nothing.
        return StageLoss(value=ratio(lost, pages), frac=ratio(lost, best) if best.sum() > 0 else NOTHING)

    bound = sums["bound_all"].to_numpy()
    return Regret(
        n_pages=int(pages.sum()),
        total=loss("total"),
        stages={stage: loss(stage) for stage in STAGES},
        best=ratio(best, pages),
        served=ratio(sums["served"].to_numpy(), pages),
        oracle_gap=ratio(bound - best, bound),
    )
