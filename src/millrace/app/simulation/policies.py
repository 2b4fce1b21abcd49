"""The table of policies: true utility of each feed under each law of behaviour, over several worlds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from millrace.app.simulation.cells import run_cells
from millrace.app.simulation.figures import shown_estimate
from millrace.app.simulation.homes import world_key
from millrace.app.simulation.run import RunSpec
from millrace.simulator.config import MechanismName, WorldConfig
from millrace.simulator.judge.compare import twin_effect
from millrace.simulator.judge.intervals import Estimate
from millrace.simulator.judge.regret import regret
from millrace.simulator.judge.utility import utility
from millrace.simulator.policies import FeedName, Policy
from millrace.simulator.records import RunRecords

COMPARED: Final[tuple[FeedName, ...]] = ("random", "chronological", "popular", "home", "oracle", "oracle_all")
BASELINES: Final = ("chronological", "popular")
_Z: Final = 1.96

Records = dict[tuple[str, int, str], RunRecords]
"""Runs by mechanism, seed and policy."""


def run_policies(
    world: WorldConfig,
    mechanisms: Sequence[MechanismName],
    seeds: Sequence[int],
    feeds: Sequence[FeedName],
    folder: Path,
    *,
    max_pages: int,
    regret_frac: float,
    n_processes: int,
    on_progress: Callable[[float], None],
) -> Records:
    """Make a run for every mechanism, seed and feed."""
    keys = [(mechanism, seed, feed) for mechanism in mechanisms for seed in seeds for feed in feeds]
    specs = []
    for mechanism, seed, feed in keys:
        config = msgspec.structs.replace(world, mechanism=mechanism, seed=seed)
        specs.append(
            RunSpec(
                folder=str(folder / f"policies-{feed}-{world_key(config)}"),
                worlds=str(folder / "worlds"),
                world=config,
                policies=(Policy(name=feed, feed=feed),),
                hours=max_pages,  # the bound of pages ends it
                max_pages=max_pages,
                regret_frac=regret_frac,
                keeps_items=False,
            )
        )
    return dict(zip(keys, run_cells(specs, n_processes, on_progress), strict=True))


def table(records: Records) -> dict[str, Any]:
    """Return true utility by mechanism and policy, and how the home feed stands to the baselines."""
    mechanisms = tuple(dict.fromkeys(mechanism for mechanism, _, _ in records))
    return {mechanism: _of_mechanism(records, mechanism) for mechanism in mechanisms}


def _of_mechanism(records: Records, mechanism: str) -> dict[str, Any]:
    mine = {(seed, feed): run for (m, seed, feed), run in records.items() if m == mechanism}
    seeds, feeds = dict.fromkeys(seed for seed, _ in mine), dict.fromkeys(feed for _, feed in mine)
    policies = {feed: _cell([mine[seed, feed] for seed in seeds]) for feed in feeds}
    ahead = {}
    if "home" in feeds:
        for other in feeds:
            if other != "home":
                ahead[other] = [_ahead(mine[seed, other], mine[seed, "home"]) | {"seed": seed} for seed in seeds]
    return {"policies": policies, "home_against": ahead}


def _cell(runs: Sequence[RunRecords]) -> dict[str, Any]:
    """Pool the worlds of one cell: the mean of their means, with the error of people within worlds."""
    found = [utility(run) for run in runs]
    cell: dict[str, Any] = {"n_pages": sum(one.n_pages for one in found), "n_worlds": len(runs)}
    for measure in ("value", "satisfaction"):
        cell[f"{measure}_per_page"] = pooled([one.measures[measure].page for one in found])
        cell[f"{measure}_per_viewer_day"] = pooled([one.measures[measure].viewer_day for one in found])
    cell["sessions_per_viewer_day"] = pooled([one.sessions_per_viewer_day for one in found])
    cell["negatives_per_1000"] = pooled([one.negatives_per_1000 for one in found])
    if all(run["regret"].height for run in runs):
        splits = [regret(run) for run in runs]
        cell["regret_frac"] = pooled([split.total.frac for split in splits])
        cell["regret_stages"] = {
            name: pooled([split.stages[name].frac for split in splits]) for name in splits[0].stages
        }
    return cell


def pooled(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return the mean of estimates of several worlds, with its interval, and each of them."""
    known = [one for one in estimates if math.isfinite(one.value)]
    if not known:
        return {"value": math.nan, "low": math.nan, "high": math.nan, "by_world": []}
    value = sum(one.value for one in known) / len(known)
    errors = [one.error for one in known if math.isfinite(one.error)]
    error = math.sqrt(sum(error**2 for error in errors)) / len(known) if errors else math.nan
    return {
        "value": value,
        "low": value - _Z * error,
        "high": value + _Z * error,
        "by_world": [one.value for one in known],
    }


def _ahead(other: RunRecords, home: RunRecords) -> dict[str, Any]:
    """Return by how much the home feed is worth more per page, by twins."""
    effect = twin_effect(other, home)
    difference = effect.per_page.difference
    return {"difference": difference.value, "low": difference.low, "high": difference.high, "n": effect.per_page.n}


def rows(figures: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return the columns and rows of the printed table."""
    columns = ("mechanism", "policy", "pages", "value/page", "satisf./page", "value/day", "visits/day", "regret")
    lines: list[tuple[object, ...]] = []
    for mechanism, found in figures.items():
        for policy, cell in found["policies"].items():
            keys = ("value_per_page", "satisfaction_per_page", "value_per_viewer_day", "sessions_per_viewer_day")
            shown = [_shown(cell[key]) for key in keys]
            lines.append((mechanism, policy, cell["n_pages"], *shown, _shown(cell.get("regret_frac"))))
    return columns, lines


def _shown(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return ""
    return shown_estimate(estimate, 3)
