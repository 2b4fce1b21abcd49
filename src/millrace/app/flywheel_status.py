"""What the flywheel has come to: what serves, how well it predicted the last hours, what was decided and why."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from millrace.app import wiring
from millrace.app.clocks import Clocks, clocks_of
from millrace.app.flywheel_parts import GuardFigures, JoinFigures, guard_figures, guards_looked_ms, join_figures
from millrace.app.flywheel_rounds import decision_log, round_folder
from millrace.app.learning_note import waiting_words
from millrace.app.roles_beside import learns_on, problems
from millrace.app.settings import Settings
from millrace.app.student_renewal import distillation_log
from millrace.app.training_status import training_status
from millrace.app.virtual_time import has_virtual_time
from millrace.base.clock import Clock
from millrace.base.errors import MillraceError
from millrace.flywheel.decisions import Decision
from millrace.flywheel.distillations import Distillation
from millrace.flywheel.learning_round import RoundFolder
from millrace.flywheel.prequential import mean_figures
from millrace.registry.manifest import Kind
from millrace.registry.withdrawals import Withdrawal

N_TOLD: Final = 10
N_HOURS: Final = 24


class HourFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How what served then predicted a round's pages before anything learned from them.

    Attributes
    ----------
    from_ms, until_ms
        When the pages were made, event time.
    n_pages, n_rows
        How many.
    version
        What served and predicted.
    auc, normalised_entropy, calibration
        Means over the actions that were done often enough; None: too little was done.
    """

    from_ms: int
    until_ms: int
    n_pages: int
    n_rows: int
    version: str
    auc: float | None
    normalised_entropy: float | None
    calibration: float | None


class TakenBack(msgspec.Struct, frozen=True, kw_only=True):
    """A ranker that was rolled back, or taken out of service, and stays so.

    Attributes
    ----------
    version
        Which.
    at_ms
        When, real time.
    reason
        Why: what a guard found, or what a person noted.
    """

    version: str
    at_ms: int
    reason: str


class FlywheelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The flywheel, for people and for the page.

    Attributes
    ----------
    words
        All of it in a line.
    learns
        Whether it learns on beside the server that runs; where none runs, whether one would, by the config.
    is_learning
        Whether a round is at work, or was interrupted.
    doing
        What is at work now and how far, else what learning waits for; empty: nobody says.
    live_version
        The ranker that serves everybody; empty: none.
    hours
        Prequential figures of the newest rounds, the newest last.
    decisions
        The newest, the newest first.
    distillations
        What came of distilling the pre-ranker anew since the oldest of the decisions, the newest first.
    withdrawn
        Versions of rankers that were rolled back, or taken out of service.
    taken_back
        The newest of them with the reasons, the newest first.
    join
        How the streaming join is doing; None: it has not committed anything yet.
    guards
        What the guards say of the ranker that serves; none: they have not looked at it yet.
    guards_told_ms
        When they looked last, real time; None: never.
    guards_event_ms
        How far event time had come for them then; None: they had heard nothing.
    problems
        What should be at work beside the feed of a server that runs, and is not.
    clocks
        What time it is, and by which clock each of these figures is told.
    """

    words: str
    clocks: Clocks
    learns: bool
    is_learning: bool
    doing: str
    live_version: str
    hours: tuple[HourFigures, ...]
    decisions: tuple[Decision, ...]
    withdrawn: tuple[str, ...]
    taken_back: tuple[TakenBack, ...] = ()
    join: JoinFigures | None = None
    guards: tuple[GuardFigures, ...] = ()
    guards_told_ms: int | None = None
    guards_event_ms: int | None = None
    problems: tuple[str, ...] = ()
    distillations: tuple[Distillation, ...] = ()

    @property
    def guards_looked(self) -> str:
        """When the guards looked last, for people: by the clock of what they looked at; empty: never."""
        if self.guards_told_ms is None:
            return ""
        if self.clocks.is_virtual and self.guards_event_ms is not None:
            return self.clocks.event(self.guards_event_ms)
        return self.clocks.real(self.guards_told_ms)


def flywheel_status(
    settings: Settings, n_decisions: int = N_TOLD, n_hours: int = N_HOURS, event_clock: Clock | None = None
) -> FlywheelStatus:
    """Return what the flywheel has come to; reads a few small files.

    Parameters
    ----------
    settings
        The home.
    n_decisions, n_hours
        How many of the newest are told.
    event_clock
        The home's; None: it is read from the log, where time is virtual.

    Raises
    ------
    StoreError
        If the decisions or the distillations are damaged.
    """
    registry = wiring.build_registry(settings)
    try:
        live, back = registry.serving().get("ranker", ""), registry.withdrawn()
    except MillraceError:  # doctor tells what is wrong with it
        live, back = "", dict[tuple[Kind, str], Withdrawal]()
    decisions = decision_log(settings).newest(max(n_decisions, n_hours) + 1)  # one more: whether there are others
    rankers = [said for (kind, _), said in back.items() if kind == "ranker"]
    withdrawn = tuple(sorted(said.version for said in rankers))
    told = decisions[-n_decisions:] if n_decisions else []
    since_ms = told[0].at_ms if told and len(told) < len(decisions) else 0
    real_now_ms = wiring.build_clock().now_ms()
    clocks = clocks_of(
        is_virtual=has_virtual_time(settings),
        event_now_ms=(event_clock or wiring.build_event_clock(settings)).now_ms(),
        real_now_ms=real_now_ms,
    )
    looked_ms, looked_event_ms = guards_looked_ms(settings)
    return FlywheelStatus(
        words=_words(live, decisions, withdrawn, clocks),
        clocks=clocks,
        learns=learns_on(settings),
        is_learning=RoundFolder(round_folder(settings)).is_there,
        doing=_doing(settings),
        live_version=live,
        hours=tuple(_hour(each) for each in decisions[-n_hours:]),
        decisions=tuple(reversed(told)),
        distillations=tuple(each for each in reversed(distillation_log(settings).all()) if each.at_ms >= since_ms),
        withdrawn=withdrawn,
        taken_back=tuple(
            TakenBack(version=said.version, at_ms=said.at_ms, reason=said.reason)
            for said in sorted(rankers, key=lambda said: -said.at_ms)[:n_decisions]
        ),
        join=join_figures(settings),
        guards=guard_figures(settings, live),
        guards_told_ms=looked_ms,
        guards_event_ms=looked_event_ms,
        problems=problems(settings, real_now_ms),
    )


def verdict_words(decision: Decision, withdrawn: tuple[str, ...]) -> str:
    """Return a verdict as people say it; of a ranker that was rolled back since, that too."""
    is_back = decision.verdict == "promoted" and decision.to_version in withdrawn
    return f"{decision.verdict}, rolled back since" if is_back else decision.verdict


def _doing(settings: Settings) -> str:
    if (training := training_status(settings)) is not None:
        return training.words()
    waiting = waiting_words(settings)
    return f"waiting: {waiting}" if waiting else ""


def _words(live: str, decisions: list[Decision], withdrawn: tuple[str, ...], clocks: Clocks) -> str:
    serves = f"ranker {live} serves" if live else "no ranker serves"
    if not decisions:
        return f"flywheel: {serves}; no rounds yet"
    last = decisions[-1]
    return (
        f"flywheel: {serves}; round {last.number} (pages until {clocks.event(last.until_ms)}) "
        f"{verdict_words(last, withdrawn)}: {last.why}"
    )


def _hour(decision: Decision) -> HourFigures:
    auc, entropy, calibration = (
        value if math.isfinite(value) else None for value in mean_figures(decision.prequential)
    )
    return HourFigures(
        from_ms=decision.from_ms,
        until_ms=decision.until_ms,
        n_pages=decision.n_pages,
        n_rows=decision.n_rows,
        version=decision.from_version or decision.to_version,
        auc=auc,
        normalised_entropy=entropy,
        calibration=calibration,
    )
