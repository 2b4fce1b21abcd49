"""`Findings`: all that the judge has to say about one policy, and what a change from one to another did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from millrace.base.errors import MillraceError
from millrace.simulator.judge.calibration import Calibration, calibration
from millrace.simulator.judge.compare import ab_effect, twin_effect
from millrace.simulator.judge.diversity import Diversity, diversity
from millrace.simulator.judge.effects import Effect
from millrace.simulator.judge.exposure import Exposure, exposure
from millrace.simulator.judge.learning import NewAuthors, NewViewers, new_authors, new_viewers
from millrace.simulator.judge.regret import Regret, regret
from millrace.simulator.judge.slices import SliceEffect
from millrace.simulator.judge.tables import DAY_MS, HOUR_MS, by_policy
from millrace.simulator.judge.utility import Utility, utility, utility_over_time
from millrace.simulator.records import RunMeta, RunRecords

_FEW_DAYS = 3


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What the judge found about one policy.

    Attributes
    ----------
    over_time
        Columns of `millrace.simulator.judge.utility.utility_over_time`, by day, or by six hours in a run of less than
        three days.
    """

    meta: RunMeta
    utility: Utility
    over_time: dict[str, list[Any]]
    regret: Regret
    calibration: tuple[Calibration, ...]
    exposure: Exposure
    new_authors: NewAuthors
    new_viewers: NewViewers
    diversity: Diversity


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did, from the policy ``before`` to the policy ``after``.

    Attributes
    ----------
    kind
        ``"twins"``: two runs of one world; ``"A/B"``: two arms of one run, with whatever interference there is.
    per_viewer, per_page
        On true value: sum per person, mean per page.
    slices
        Of twins only.
    """

    kind: str
    before: str
    after: str
    per_viewer: Effect
    per_page: Effect
    slices: tuple[SliceEffect, ...] = ()


def findings(records: RunRecords) -> Findings:
    """Return all that there is to say about a run of one policy (or about all its arms together)."""
    meta = records.meta
    is_short = meta.ended_ms - meta.began_ms < _FEW_DAYS * DAY_MS
    return Findings(
        meta=meta,
        utility=utility(records),
        over_time=utility_over_time(records, 6 * HOUR_MS if is_short else DAY_MS).to_dict(as_series=False),
        regret=regret(records),
        calibration=calibration(records),
        exposure=exposure(records),
        new_authors=new_authors(records),
        new_viewers=new_viewers(records),
        diversity=diversity(records),
    )


def policies_of(runs: RunRecords | Mapping[str, RunRecords]) -> dict[str, RunRecords]:
    """Return one run per policy, by name: runs with several arms are split.

    Raises
    ------
    MillraceError
        If there is none, or two would have one name.
    """
    named = _named(runs)
    policies: dict[str, RunRecords] = {}
    for name, run in named.items():
        for policy, part in by_policy(run, name).items():
            if policy in policies:
                raise MillraceError("policy", value=policy, problem="is there twice", remedy="name the runs apart")
            policies[policy] = part
    if not policies:
        raise MillraceError("runs", problem="there is none to report on", remedy="give at least one run")
    return policies


def comparisons_of(runs: RunRecords | Mapping[str, RunRecords]) -> tuple[Comparison, ...]:
    """Return what can be compared: arms with the first of their run, and runs with the first where they are twins."""
    named = _named(runs)
    found = []
    for name, run in named.items():
        policies = list(by_policy(run, name))
        found += [
            Comparison(
                kind="A/B",
                before=policies[0],
                after=policies[arm],
                per_viewer=ab_effect(run, treatment=arm),
                per_page=ab_effect(run, treatment=arm, per_page=True),
            )
            for arm in range(1, len(policies))
        ]
    alone = [(name, run) for name, run in named.items() if len(run.meta.arms) < 2]
    for name, run in alone[1:]:
        first_name, first = alone[0]
        if _world(first.meta) != _world(run.meta):
            continue
        effect = twin_effect(first, run)
        found.append(
            Comparison(
                kind="twins",
                before=str(first_name),
                after=str(name),
                per_viewer=effect.per_viewer,
                per_page=effect.per_page,
                slices=effect.slices,
            )
        )
    return tuple(found)


def _named(runs: RunRecords | Mapping[str, RunRecords]) -> dict[str | None, RunRecords]:
    return {None: runs} if isinstance(runs, RunRecords) else dict(runs.items())


def _world(meta: RunMeta) -> tuple[object, ...]:
    return meta.mechanism, meta.size, meta.seed, meta.began_ms, meta.ended_ms
