"""Figures of runs as the commands print them, taken from the judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from millrace.simulator.judge.compare import TwinEffect, ab_effect, twin_effect
from millrace.simulator.judge.effects import Effect
from millrace.simulator.judge.intervals import Estimate
from millrace.simulator.judge.regret import Regret, regret
from millrace.simulator.judge.tables import by_policy
from millrace.simulator.judge.utility import utility
from millrace.simulator.records import RunRecords

SUMMARY: Final = (
    ("policy", "policy"),
    ("n_pages", "pages"),
    ("value", "value/page"),
    ("satisfaction", "satisf./page"),
    ("value_per_viewer_day", "value/day"),
    ("sessions_per_viewer_day", "visits/day"),
    ("negatives_per_1000", "dislikes/1,000"),
    ("regret_frac", "regret"),
)
"""Keys of an arm's figures, and their titles."""

_MEASURES: Final = ("value", "satisfaction")
Figures = dict[str, Any]


def run_figures(records: RunRecords) -> Figures:
    """Return the figures of a run, one entry an arm under ``arms``."""
    return {
        "mechanism": records.meta.mechanism,
        "size": records.meta.size,
        "seed": records.meta.seed,
        "virtual_hours": (records.meta.ended_ms - records.meta.began_ms) / 3_600_000,
        "arms": [_arm_figures(name, part) for name, part in by_policy(records).items()],
    }


def _arm_figures(name: str, records: RunRecords) -> Figures:
    found = utility(records)
    figures: Figures = {"policy": name, "n_pages": found.n_pages, "n_impressions": found.n_impressions}
    for measure in _MEASURES:
        units = found.measures[measure]
        figures[measure] = _told(units.page)
        figures[f"{measure}_per_viewer_day"] = _told(units.viewer_day)
    figures["sessions_per_viewer_day"] = _told(found.sessions_per_viewer_day)
    figures["return_frac"] = _told(found.return_frac)
    figures["negatives_per_1000"] = _told(found.negatives_per_1000)
    if records["regret"].height:
        split = regret(records)
        figures["regret_frac"] = _told(split.total.frac)
        figures["regret"] = regret_figures(split)
    return figures


def regret_figures(split: Regret) -> Figures:
    """Return the split of regret by stage, as shares of the best page's value."""
    return {
        "n_pages": split.n_pages,
        "best": _told(split.best),
        "served": _told(split.served),
        "stages": {name: _told(stage.frac) for name, stage in split.stages.items()},
        "oracle_gap_frac": _told(split.oracle_gap),
    }


def twin_figures(before: RunRecords, after: RunRecords) -> Figures:
    """Return what a change did by twins, on both measures."""
    effects = {measure: twin_effect(before, after, measure) for measure in _MEASURES}
    return {measure: _twin(effect) for measure, effect in effects.items()}


def _twin(effect: TwinEffect) -> Figures:
    return {
        "per_viewer": _effect(effect.per_viewer),
        "per_page": _effect(effect.per_page),
        "slices": {part.slice: _effect(part.effect) | {"p_adjusted": part.p_adjusted} for part in effect.slices},
        "harmed": list(effect.harmed),
    }


def twin_rows(figures: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return the columns and rows of a twins' table."""
    rows: list[tuple[object, ...]] = []
    for measure in _MEASURES:
        rows.extend((measure, unit, *_effect_cells(figures[measure][unit])) for unit in ("per_viewer", "per_page"))
        rows.append((measure, "harmed slices", ", ".join(figures[measure]["harmed"]) or "none", "", ""))
    return ("measure", "", "relative effect", "95 %", "p"), rows


def ab_figures(records: RunRecords) -> Figures:
    """Return what an A/B test of a run's two arms says."""
    return {
        measure: {
            "per_viewer": _effect(ab_effect(records, measure)),
            "per_page": _effect(ab_effect(records, measure, per_page=True)),
        }
        for measure in _MEASURES
    }


def ab_rows(figures: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return the columns and rows of an A/B test's table."""
    units: Sequence[str] = ("per_viewer", "per_page")
    rows: list[tuple[object, ...]] = [
        (measure, unit, *_effect_cells(figures[measure][unit])) for measure in _MEASURES for unit in units
    ]
    return ("measure", "", "relative effect", "95 %", "p"), rows


def cell(told: object) -> str:
    """Return an estimate as a table shows it."""
    if isinstance(told, Mapping):
        return shown_estimate(told, 4)
    return str(told)


def shown_estimate(told: Mapping[str, Any], n_digits: int) -> str:
    """Return a value with half its interval; the value alone where too few people were seen for an interval."""
    value, half = told["value"], (told["high"] - told["low"]) / 2
    return f"{value:.{n_digits}g} ±{half:.2g}" if math.isfinite(half) else f"{value:.{n_digits}g}"


def _effect_cells(effect: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = effect["low"], effect["high"]
    return f"{effect['relative']:+.2%}", f"{low:+.2%} to {high:+.2%}", f"{effect['p_value']:.3g}"


def _effect(effect: Effect) -> Figures:
    relative = effect.relative
    return {
        "before": effect.before,
        "after": effect.after,
        "relative": relative.value,
        "low": relative.low,
        "high": relative.high,
        "p_value": effect.p_value,
        "n": effect.n,
    }


def _told(estimate: Estimate) -> Figures:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
