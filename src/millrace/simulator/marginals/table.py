"""`describe`: a log's marginals beside real ones, row by row, each with what to think of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from millrace.events.envelope import AnyEvent
from millrace.simulator.marginals.collected import collect
from millrace.simulator.marginals.of_events import marginals_of
from millrace.simulator.marginals.real import real_sets
from millrace.simulator.marginals.statistics import Marginals

Verdict = Literal["alike", "near", "unlike", "scale", ""]
_BEST_FIRST: Final = ("alike", "near", "unlike", "scale", "")

SHORT_COLUMNS: Final = ("quantity", "statistic", "world", "real", "verdict", "data sets")
COLUMNS: Final = ("quantity", "statistic", "world", "real", "ratio", "verdict", "data set")
HOW_TO_COMPARE: Final = (
    "no real column: set MILLRACE_DATA, or give --data, to a folder that holds public sets "
    "(yelp-social, mind-subset, reddit-posts, …; docs/simulator.md lists them)"
)

HEADLINES: Final = frozenset(
    {
        "median", "p90/median", "gini", "top 1% share", "exponent of top 10%", "reciprocity", "local", "transitivity",
        "none at all", "never passed on", "of 5 and more", "largest", "passed on by a follower",
        "done by half its life", "cv of the rate", "rate", "plain at 4-5", "plain at 11-20", "plain decay",
        "at 1", "at 4-5", "at 11-20", "decay", "decay se", "likes per impression", "negative per 1,000 impressions",
        "engagements per impression", "who never post", "who neither post nor act", "p10 s", "median s", "p90 s",
        "within a day", "burstiness", "busiest hour", "quietest hour",
    }
)  # fmt: skip
"""What a short table shows."""

_ALIKE: Final = 1.5
_NEAR: Final = 3.0
"""Ratios up to which, either way, two numbers are called so."""

_BY_DIFFERENCE: Final = {"burstiness": 0.15, "tail exponent": 0.3, "exponent of top 10%": 0.3}
"""Statistics for which a ratio would mislead: differences up to this are alike, up to three times as much near."""

_LEVELS: Final = frozenset({"mean", "p10", "median", "p90", "p99", "largest", "tail from"})
_GROWS: Final = (" per user", " per post", " per author")
"""Levels of these grow with the length of a log and the number of people: shown, not judged."""

_UNJUDGED: Final = ("decay", "decay se", "plain decay", "tail from", "at ", "plain at ")
"""Beginnings of what has no verdict: no public set here measures position (docs/simulator.md), so none can judge it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of a log beside the same number of one data set.

    Attributes
    ----------
    real, data_set, ratio
        None and empty where no set has it; the ratio is world over real, None where real is 0.
    verdict
        ``alike``, ``near`` or ``unlike``; ``scale`` for what depends on how long and how large a log is; empty where
        no set can judge.
    """

    quantity: str
    statistic: str
    world: float
    real: float | None = None
    data_set: str = ""
    ratio: float | None = None
    verdict: Verdict = ""

    @property
    def is_headline(self) -> bool:
        """Whether a short table shows it."""
        return self.statistic in HEADLINES

    def cells(self) -> tuple[str, ...]:
        """Return what a table shows, in the order of `COLUMNS`."""
        numbers = (_said(self.world), _said(self.real), "" if self.ratio is None else f"×{self.ratio:.2g}")
        return (self.quantity, self.statistic, *numbers, self.verdict, self.data_set)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON takes it."""
        return asdict(self)


def describe(events: Iterable[AnyEvent], data_folder: Path | None = None) -> list[Row]:
    """Return the table of a log, read once; with a folder of public sets, beside those.

    Parameters
    ----------
    events
        Any log, a simulated one or another.
    data_folder
        Its sub-folders are the sets; those that are not there are left out.

    Examples
    --------
    >>> from millrace.simulator.config import WorldConfig
    >>> from millrace.simulator.world import simulate_history
    >>> rows = describe(simulate_history(WorldConfig(size="tiny"), 1_800_000_000_000))
    >>> [row.statistic for row in rows if row.quantity == "follow graph"]
    ['reciprocity']
    """
    log = collect(events)
    reals = [] if data_folder is None else list(real_sets(data_folder, log.span_ms() or None))
    return beside(marginals_of(log), reals)


def beside(world: Marginals, reals: Sequence[tuple[str, Marginals]]) -> list[Row]:
    """Return a row for each number of the world and each set that has it, or one without."""
    rows: list[Row] = []
    for quantity, statistics in world.items():
        for statistic, value in statistics.items():
            found = [(name, real[quantity][statistic]) for name, real in reals if statistic in real.get(quantity, {})]
            rows.extend(_row(quantity, statistic, value, real, name) for name, real in found)
            if not found:
                rows.append(Row(quantity, statistic, value))
    return rows


def short_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the short table, in the order of `SHORT_COLUMNS`: headlines only, one line for all sets of a statistic.

    The verdict is that of the closest set; ``within`` where it is like none and yet lies among them.
    """
    shown: list[tuple[str, ...]] = []
    above = ""
    for (quantity, statistic), group in groupby(rows, key=lambda row: (row.quantity, row.statistic)):
        sets = list(group)
        if not sets[0].is_headline:
            continue
        world, reals = sets[0].world, [row.real for row in sets if row.real is not None]
        verdict: str = min((row.verdict for row in sets), key=_BEST_FIRST.index)
        if len(reals) > 1 and verdict in ("near", "unlike") and min(reals) <= world <= max(reals):
            verdict = "within"
        shown.append(
            (
                "" if quantity == above else quantity,
                statistic,
                _said(world),
                " · ".join(map(_said, reals)),
                verdict,
                " · ".join(row.data_set for row in sets),
            )
        )
        above = quantity
    return shown


def _row(quantity: str, statistic: str, world: float, real: float, data_set: str) -> Row:
    ratio = world / real if real else None
    return Row(quantity, statistic, world, real, data_set, ratio, _verdict(quantity, statistic, world, real))


def _verdict(quantity: str, statistic: str, world: float, real: float) -> Verdict:
    if statistic.startswith(_UNJUDGED):
        return ""
    if statistic in _LEVELS and quantity.endswith(_GROWS):
        return "scale"
    if (tolerance := _BY_DIFFERENCE.get(statistic)) is not None:
        apart = abs(world - real)
        return "alike" if apart <= tolerance else "near" if apart <= 3 * tolerance else "unlike"
    if world == real:
        return "alike"
    if world <= 0 or real <= 0:
        return "unlike"
    off = float(np.exp(abs(np.log(world / real))))
    return "alike" if off <= _ALIKE else "near" if off <= _NEAR else "unlike"


def _said(value: float | None) -> str:
    if value is None:
        return ""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
