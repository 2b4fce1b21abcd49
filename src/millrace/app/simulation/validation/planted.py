"""Checks with something planted: effects, harm in a slice, broken stages, interference between people."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from millrace.app.simulation.validation.check import Bench, Check
from millrace.simulator.judge.compare import twin_effect
from millrace.simulator.judge.effects import apart, paired_effect, split_effect
from millrace.simulator.judge.intervals import mean
from millrace.simulator.judge.stages import blame
from millrace.simulator.policies import FeedName, Harm, Policy
from millrace.simulator.records import RunRecords

EFFECTS: Final = (0.0, 0.005, 0.01, 0.02)
_HARMED: Final = "es"
_HARM: Final = 0.05
_QUIET: Final = 0.2
_BROKEN: Final[dict[FeedName, tuple[str, ...]]] = {
    "reversed": ("ranking",),
    "constant": ("ranking",),
    "stale": ("ranking",),
    "over_filtered": ("filters",),
    "unfiltered": ("filters: let through",),
}
HOME: Final = Policy(name="home")


def planted_effects(bench: Bench) -> Check:
    """Effects of a known size in a policy's true utility are measured at that size, harm in one slice is found.

    Planted in the chronological feed, among people whose visits do not hang on their mood: elsewhere a world goes its
    own way after the first like that was not given, and an effect of 1 % is as large as what luck does to 2,000 pages.
    """
    calm = msgspec.structs.replace(bench.world, mood_pull=0.0, creator_pull=0.0)
    plain = Policy(name="plain", feed="chronological")
    planted = [
        Policy(name=f"planted-{effect:g}", feed="chronological", readiness=1.0 + effect) for effect in EFFECTS[1:]
    ]
    harm = Policy(
        name="harm", feed="chronological", readiness=1.005, harm=Harm(language=_HARMED, readiness=1.0 - _HARM)
    )
    again = Policy(name="again", feed="chronological")  # an effect of 0 is a run of its own, not a copy of the first
    arms = [(policy,) for policy in (plain, again, *planted, harm)]
    first, *others = bench.runs("planted effects", *arms, world=calm)
    effects = [twin_effect(first, run) for run in others]
    measured = [effect.per_page.relative.value for effect in effects[: len(EFFECTS)]]
    slope = float(np.polyfit(EFFECTS, measured, 1)[0])
    realised = [twin_effect(first, run, "did_value").per_page.relative for run in others[: len(EFFECTS)]]
    harmed = effects[-1].harmed
    languages = [part for part in harmed if part.startswith("language=")]
    found = languages == [f"language={_HARMED}"]  # and nobody is called harmed who is not
    return Check(
        name="3. planted effects",
        passed=abs(slope - 1.0) <= 0.05 and found,
        number=f"slope {slope:.3f} (1 ± 0.05); harm of {_HARM:.0%} planted in {_HARMED}: "
        f"{'found, there alone' if found else f'not found, or elsewhere too ({languages})'}",
        figures={
            "planted": list(EFFECTS),
            "measured_per_page": measured,
            "measured_error": [effect.per_page.relative.error for effect in effects[: len(EFFECTS)]],
            "slope": slope,
            "realised_per_page": [one.value for one in realised],
            "realised_error": [one.error for one in realised],
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
        feed: any(_is(str(verdicts[feed]["blamed"]), stage) for stage in stages) for feed, stages in _BROKEN.items()
    }
    named = "; ".join(f"{feed} → {verdict['blamed']}" for feed, verdict in verdicts.items())
    return Check(
        name="6. broken stages",
        passed=all(right.values()),
        number=f"{sum(right.values())} of {len(right)} blamed on the right stage: {named}",
        figures=verdicts,
    )


def _is(blamed: str, stage: str) -> bool:
    """Whether a verdict names a stage; of a rule that was let through any may be named."""
    return blamed.startswith(stage) if stage.endswith("let through") else blamed == stage


def creators_interfere(bench: Bench) -> Check:
    """An effect through creators makes a naive A/B wrong by what the twins show.

    Under the policy "quiet" people react much less. Creators whom nobody answers write less. Split people, and every
    creator is read by both halves: both halves of the creators write less, and the test sees next to no difference.
    """
    quiet = Policy(name="quiet", readiness=_QUIET)
    home, changed, both = bench.runs("interference", (HOME,), (quiet,), (HOME, quiet), hours=bench.hours * 1.5)
    written = [_written(run) for run in (home, changed, both)]
    truth = paired_effect(written[0], written[1])
    arm = both["users"].sort("user")["arm"].to_numpy()
    naive = split_effect(written[2][arm == 0], written[2][arm == 1]).relative
    # What a test of very many people would say: each person's luck is taken out, as the same person's twin had it.
    own = (written[2] - written[0]) / written[0].mean()
    sure, _ = apart(mean(own[arm == 1]), mean(own[arm == 0]))
    off, p_value = apart(sure, truth.relative)
    return Check(
        name="7. interference",
        passed=truth.p_value < 0.05 and p_value < 0.05,
        number=f"posts an author writes: twins {truth.relative.value:+.1%} [{truth.relative.low:+.1%}, "
        f"{truth.relative.high:+.1%}], naive A/B {naive.value:+.1%} [{naive.low:+.1%}, {naive.high:+.1%}], of very "
        f"many people {sure.value:+.1%} [{sure.low:+.1%}, {sure.high:+.1%}]; off by {off.value:+.1%} (p {p_value:.2g})",
        figures={
            "readiness": _QUIET,
            "posts": {name: int(w.sum()) for name, w in zip(("home", "quiet", "split"), written, strict=True)},
            "twin": [truth.relative.value, truth.relative.low, truth.relative.high],
            "naive_ab": [naive.value, naive.low, naive.high],
            "naive_ab_without_luck": [sure.value, sure.low, sure.high],
            "off_by": [off.value, off.low, off.high],
            "p_value": p_value,
        },
    )


def _written(run: RunRecords) -> npt.NDArray[np.float64]:
    """Return how many originals each person wrote during a run, shape (n_users,)."""
    posts = run["posts"].filter((pl.col("created_ms") >= run.meta.began_ms) & (pl.col("kind") == 0))
    return np.bincount(posts["author"].to_numpy(), minlength=run["users"].height).astype(np.float64)
