"""What became of each component of a request: `Outcome` where something went wrong, `ComponentReport` for all."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Fate(enum.Enum):
    """How a component's turn ended."""

    OK = "ok"
    DISABLED = "disabled"  # switched off for this request: nothing is wrong
    FAILED = "failed"  # raised, or broke its contract
    OVERRAN = "overran"  # a source of the CPU took longer than its time: its answer is there, and is used
    LATE = "late"  # did not answer within its time; its answer is not used
    SKIPPED = "skipped"  # the deadline had passed before its turn
    FALLBACK = "fallback"  # failed or was late, and gave its last known values instead
    BLIND = "blind"  # what it reads is missing, so its policy decided


class Outcome(NamedTuple):
    """One component that did not do what it should."""

    stage: str
    component: str
    fate: Fate
    detail: str


class ComponentReport(NamedTuple):
    """One component's turn.

    Attributes
    ----------
    stage, component
        ``"source"``, ``"in_network"``.
    fate
        How it ended.
    start_ms, took_ms
        Since the request began, real time; for waiting components that includes the wait.
    n_in, n_out
        Candidates before and after, also where the component failed and its policy decided (sources: found; query
        hydrators: 0).
    """

    stage: str
    component: str
    fate: Fate
    start_ms: float
    took_ms: float
    n_in: int
    n_out: int


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """What one request cost and how each component fared.

    Attributes
    ----------
    pipeline
        Its name.
    total_ms
        Real time from the first component to the last.
    components
        In order of their turns; a late filter appears once per refill round.
    outcomes
        The components that went wrong.
    n_retrieved, n_candidates, n_ranked, n_slate
        Rows before the merge, after it, after filters, and served.
    n_wanted
        How many the slate should have had.
    n_refills
        How often late filters made the page be selected again.
    """

    pipeline: str
    total_ms: float
    components: tuple[ComponentReport, ...]
    outcomes: tuple[Outcome, ...]
    n_retrieved: int
    n_candidates: int
    n_ranked: int
    n_slate: int
    n_wanted: int
    n_refills: int

    @property
    def is_degraded(self) -> bool:
        """Whether anything went wrong."""
        return bool(self.outcomes)

    def took_ms_by_stage(self) -> dict[str, float]:
        """Return the summed time of each stage's components."""
        totals: dict[str, float] = {}
        for component in self.components:
            totals[component.stage] = totals.get(component.stage, 0.0) + component.took_ms
        return totals


class PipelineObserver(Protocol):
    """Hears of every request: metrics, traces. Must be quick; it runs before the answer leaves."""

    def observe(self, report: PipelineReport) -> None:
        """Take notice of a finished request."""

    def observe_side_effect(self, pipeline: str, report: ComponentReport, outcome: Outcome | None) -> None:
        """Take notice of a side effect that ended after its request."""


class NullObserver:
    """Takes no notice."""

    def observe(self, report: PipelineReport) -> None:
        """Do nothing."""

    def observe_side_effect(self, pipeline: str, report: ComponentReport, outcome: Outcome | None) -> None:
        """Do nothing."""
