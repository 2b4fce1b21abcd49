"""Made-up records of a simulated run, with planted truths, so that the judge can be tried without running a world.

The same `RunPlan.seed` makes the same people, posts and visits: two plans that differ in the rest are twin worlds under
two feeds. What is planted is exact in expectation: a lift is a relative effect on true value, a stage's loss is its
share of the best page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from millrace.base.actions import NEGATIVE
from millrace.simulator.judge.regret import STAGES
from millrace.simulator.judge.tables import RULES
from millrace.simulator.mechanisms.situation import WORLD_ACTIONS
from millrace.simulator.records import Columns, RecordWriter, RunMeta, RunRecords
from millrace.testing.run_plan import BEGAN_MS, DAY_MS, KINDS, LANGUAGES, SOURCES, TOPICS, RunPlan
from millrace.testing.run_world import Floats, Frame, make_items, make_posts, make_users, make_visits

__all__ = ["RunPlan", "a_run", "write_run"]

_HEALTHY_LOSS_FRAC: Final = {
    "retrieval": 0.06,
    "filters": 0.005,
    "pre-ranking": 0.02,
    "ranking": 0.12,
    "re-ranking": 0.015,
}
_LEVELS: Final = ("best_all", "best_retrieved", "best_filtered", "best_preranked", "ranked", "served")


def a_run(plan: RunPlan | None = None) -> RunRecords:
    """Return the records of a made-up run."""
    meta, tables = _make(plan or RunPlan())
    return RunRecords(meta, {name: pl.DataFrame(dict(columns)) for name, columns in tables.items()})


def write_run(folder: Path, plan: RunPlan | None = None) -> None:
    """Write a made-up run into a folder, as the loop writes one."""
    meta, tables = _make(plan or RunPlan())
    writer = RecordWriter(folder)
    writer.write(0, tables)
    writer.describe(meta)


def _make(plan: RunPlan) -> tuple[RunMeta, dict[str, Columns]]:
    ended_ms = BEGAN_MS + plan.n_days * DAY_MS
    world = np.random.default_rng([plan.seed, 0])
    users = make_users(plan, world, ended_ms)
    posts = make_posts(plan, world, users, ended_ms)
    sessions, pages = make_visits(plan, world, users, ended_ms)
    items = make_items(plan, users, posts, pages)
    _sum_up(plan, pages, items, sessions)
    meta = RunMeta(
        mechanism="made up",
        size="made up",
        seed=plan.seed,
        arms=plan.arms,
        began_ms=BEGAN_MS,
        ended_ms=ended_ms,
        topics=TOPICS,
        languages=LANGUAGES,
        kinds=KINDS,
        sources=SOURCES,
        actions=tuple(action.label for action in WORLD_ACTIONS),
        page_limit=plan.page_limit,
    )
    regret = _regret(plan, pages)
    users.pop("taste")
    tables = {"pages": pages, "items": items, "regret": regret, "sessions": sessions, "posts": posts, "users": users}
    return meta, dict(tables)


def _sum_up(plan: RunPlan, pages: Frame, items: Frame, sessions: Frame) -> None:
    """Write what the items come to into the pages, and what these come to into the sessions."""
    rng = np.random.default_rng([plan.seed, 2, plan.feed_seed])
    n_pages, page = len(pages["page"]), items["page"]
    seen = items["is_examined"].astype(np.float64)

    def per_page(amount: Floats) -> Floats:
        return np.asarray(np.bincount(page, amount, minlength=n_pages), dtype=np.float64)

    pages["n_examined"] = per_page(seen).astype(np.int16)
    for measure in ("value", "satisfaction"):
        pages[measure] = per_page(items["examine"].astype(np.float64) * items[measure])
        pages[f"did_{measure}"] = per_page(seen * items[measure])
    is_negative = sum(1 << i for i, action in enumerate(WORLD_ACTIONS) if action in NEGATIVE)
    dislikes = np.bitwise_count(items["did"] & np.uint32(is_negative))
    pages["n_positive"] = per_page(np.bitwise_count(items["did"]) - dislikes.astype(np.float64)).astype(np.int16)
    pages["n_negative"] = per_page(dislikes.astype(np.float64)).astype(np.int16)
    for rule in RULES:
        broken = rng.poisson(plan.broken_per_page.get(rule, 0.0), n_pages)
        pages[f"n_{rule}"] = np.minimum(broken, plan.page_limit).astype(np.int16)
    for column in ("value", "satisfaction", "did_value", "did_satisfaction", "n_negative"):
        sums = np.bincount(pages["session"], pages[column], minlength=len(sessions["session"]))
        sessions[column] = np.asarray(sums, dtype=np.float64)
    sessions["n_negative"] = sessions["n_negative"].astype(np.int32)


def _regret(plan: RunPlan, pages: Frame) -> Frame:
    """A sample of the pages against an oracle; each stage loses its share of the best page, a third more or less."""
    rng = np.random.default_rng([plan.seed, 3, plan.feed_seed])
    held = np.flatnonzero(np.random.default_rng([plan.seed, 4]).random(len(pages["page"])) < plan.held_frac)
    fracs = np.array([_HEALTHY_LOSS_FRAC[stage] for stage in STAGES])
    for stage, frac in plan.stage_loss_frac.items():
        if stage not in STAGES:
            raise KeyError(stage)
        fracs[STAGES.index(stage)] = frac
    served = pages["value"][held]
    # Lognormal with mean 1, so that what is planted is right in expectation.
    losses = (served / (1 - fracs.sum()))[:, None] * fracs * rng.lognormal(-0.045, 0.3, (len(held), len(STAGES)))
    lost_after = np.cumsum(losses[:, ::-1], axis=1)[:, ::-1]
    levels = np.concatenate([served[:, None] + lost_after, served[:, None]], axis=1)
    n_all = rng.integers(2_000, 6_000, len(held)).astype(np.int32)
    return {
        **{column: pages[column][held] for column in ("page", "arm", "viewer", "time_ms")},
        **{level: levels[:, i] for i, level in enumerate(_LEVELS)},
        "bound_all": levels[:, 0] * 1.06,
        "n_all": n_all,
        "n_retrieved": n_all // 5,
        "n_filtered": n_all // 7,
    }
