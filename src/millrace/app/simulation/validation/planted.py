"""Checks with something planted: effects, harm in a slice, broken stages, interference between people."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from millrace.app.simulation.validation.check import Bench, Check
from millrace.simulator.judge.compare import ab_effect, interference, twin_effect
from millrace.simulator.judge.stages import blame
from millrace.simulator.policies import FeedName, Harm, Policy
from millrace.simulator.records import RunRecords

EFFECTS: Final = (0.0, 0.005, 0.01, 0.02)
_HARMED: Final = "es"
_BROKEN: Final[dict[FeedName, tuple[str, ...]]] = {
    "reversed": ("ranking",),
    "constant": ("ranking",),
    "stale": ("ranking",),
    "over_filtered": ("filters",),
    "unfiltered": ("filters: let through",),
}
HOME: Final = Policy(name="home")


def planted_effects(bench: Bench) -> Check:
    """Effects of a known size in a policy's true utility are measured at that size, harm in one slice is found."""
    planted = [Policy(name=f"planted-{effect:g}", readiness=1.0 + effect) for effect in EFFECTS[1:]]
    harm = Policy(name="harm", readiness=1.005, harm=Harm(language=_HARMED, readiness=0.95))
    again = Policy(name="again")  # an effect of 0 is a run of its own, not a copy of the first
    home, *others = bench.runs("planted effects", (HOME,), *((policy,) for policy in (again, *planted, harm)))
    effects = [twin_effect(home, run) for run in others]
    measured = [effect.per_page.relative.value for effect in effects[: len(EFFECTS)]]
    slope = float(np.polyfit(EFFECTS, measured, 1)[0])
    per_viewer = [effect.per_viewer.relative.value for effect in effects[: len(EFFECTS)]]
    harmed = effects[-1].harmed
    found = f"language={_HARMED}" in harmed
    return Check(
        name="3. planted effects",
        passed=abs(slope - 1.0) <= 0.05 and found,
        number=f"slope {slope:.3f} (1 ± 0.05); harm planted in {_HARMED}: {'found' if found else 'not found'}",
        figures={
            "planted": list(EFFECTS),
            "measured_per_page": measured,
            "measured_per_viewer": per_viewer,
            "slope": slope,
            "slope_per_viewer": float(np.polyfit(EFFECTS, per_viewer, 1)[0]),
            "overall_effect_of_harm": effects[-1].per_page.relative.value,
            "harmed_slices": list(harmed),
        },
    )


def broken_stages(bench: Bench) -> Check:
    """Broken rankers and filters are caught, each with the stage named."""
    home, *runs = bench.runs(
        "broken stages",
        (HOME,),
        *((Policy(name=feed, feed=feed),) for feed in _BROKEN),
        regret_frac=0.15,
    )
    verdicts: dict[str, dict[str, object]] = {}
    for feed, run in zip(_BROKEN, runs, strict=True):
        found = blame(run, home, twins=True)
        stages = {change.name: change.change.value for change in found.stages}
        verdicts[feed] = {"blamed": found.stage, "stages": stages}
    right = {
        feed: any(str(verdicts[feed]["blamed"]).startswith(stage) for stage in stages)
        for feed, stages in _BROKEN.items()
    }
    named = "; ".join(f"{feed} → {verdict['blamed']}" for feed, verdict in verdicts.items())
    return Check(
        name="6. broken stages",
        passed=all(right.values()),
        number=f"{sum(right.values())} of {len(right)} blamed on the right stage: {named}",
        figures=verdicts,
    )


def creators_interfere(bench: Bench) -> Check:
    """An effect through creators makes a naive A/B wrong by what the twins show."""
    small = Policy(name="small_creators", feed="small_creators")
    hours = 2 * bench.hours
    home, changed, both = bench.runs("interference", (HOME,), (small,), (HOME, small), hours=hours)
    figures: dict[str, object] = {}
    text = []
    for measure in ("value", "satisfaction"):
        truth = twin_effect(home, changed, measure).per_page
        naive = ab_effect(both, measure, per_page=True)
        off = interference(truth, naive)
        figures[measure] = {
            "twin": truth.relative.value,
            "twin_interval": [truth.relative.low, truth.relative.high],
            "naive_ab": naive.relative.value,
            "naive_ab_interval": [naive.relative.low, naive.relative.high],
            "off_by": off.difference.value,
            "p_value": off.p_value,
        }
        text.append(
            f"{measure}: A/B {naive.relative.value:+.1%}, twins {truth.relative.value:+.1%}, off by "
            f"{off.difference.value:+.1%} (p {off.p_value:.2f})"
        )
    posts = [_posts_by_small(run) for run in (home, changed, both)]
    figures["posts_by_small_creators"] = dict(zip(("home", "small_creators", "both"), posts, strict=True))
    return Check(name="7. interference", passed=None, number="; ".join(text), figures=figures)


def _posts_by_small(run: RunRecords) -> int:
    small = run["users"].filter(pl.col("n_followers") < 15)["user"]
    mine = run["posts"].filter(
        (pl.col("created_ms") >= run.meta.began_ms) & pl.col("author").is_in(small.cast(pl.Int64).implode())
    )
    return mine.height
