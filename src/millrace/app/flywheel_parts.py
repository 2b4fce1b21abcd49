"""The flywheel's other parts as the page shows them: the streaming join, and the guards of the ranker that serves."""

from __future__ import annotations

from typing import Final

import msgspec

from millrace.app.clocks import Clocks
from millrace.app.near_line import read_report
from millrace.app.settings import Settings
from millrace.base.errors import MillraceError
from millrace.flywheel.guards.readings import Reading
from millrace.flywheel.join_status import join_status

_ALARMED: Final = ("confirming", "tripped")
"""Beyond the threshold; a warning is worth a look, and no alarm."""


class JoinFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How the streaming join stood at its last commit.

    Attributes
    ----------
    join_rate
        The share of the newest looks that found their page, 0 to 1.
    n_samples
        Let out since the beginning.
    late_share
        The share of the newest joined actions that came after their sample was out, 0 to 1.
    lag_ms
        How far the watermark is behind the newest event, event time.
    lag_records
        Log records not heard yet.
    alarm
        What is wrong; empty: nothing.
    told_ms
        When that was, event time.
    """

    join_rate: float
    n_samples: int
    late_share: float
    lag_ms: int
    lag_records: int
    alarm: str
    told_ms: int


class GuardFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one guard says of one head or feature.

    Attributes
    ----------
    name
        Guard and head, or feature: ``calibration of like``.
    state
        waiting, ok, warning, confirming, tripped.
    is_alarmed
        Whether it is beyond its threshold.
    words
        In words, with the figures.
    """

    name: str
    state: str
    is_alarmed: bool
    words: str


def join_figures(settings: Settings) -> JoinFigures | None:
    """Return how the join of a home stands; None: it has not committed anything yet."""
    status = join_status(settings.samples_dir)
    if status is None:
        return None
    return JoinFigures(
        join_rate=status.rate.looks_frac,
        n_samples=status.n_samples,
        late_share=status.rate.late_frac,
        lag_ms=status.lag_ms,
        lag_records=status.lag_records,
        alarm=status.rate.alarm,
        told_ms=status.told_ms,
    )


def join_warnings(settings: Settings) -> tuple[str, ...]:
    """Return the join's alarm, for who asks whether the home is well; nothing where nothing joins."""
    found = join_figures(settings) if settings.config.flywheel.joins else None
    return (f"join rate: {found.alarm}",) if found is not None and found.alarm else ()


def guard_figures(settings: Settings, version: str) -> tuple[GuardFigures, ...]:
    """Return what the guards of a home said last of a ranker; empty where they have not looked at it."""
    try:
        report = read_report(settings)
    except MillraceError:  # it is written anew at the next look
        return ()
    models = report.models if report is not None else ()
    return tuple(_figures(reading) for model in models if model.model == version for reading in model.readings)


def join_words(join: JoinFigures | None, clocks: Clocks) -> str:
    """Return in a line how the join stood at its last commit."""
    if join is None:
        return "join: no samples yet"
    alarm = f"; ALARM: {join.alarm}" if join.alarm else ""
    return (
        f"join: {join.join_rate:.1%} of the newest looks found their page; {join.n_samples:,} samples, "
        f"{join.late_share:.1%} of the actions late; {join.lag_records:,} records behind the log "
        f"at {clocks.event(join.told_ms)}{alarm}"
    )


def guards_looked_ms(settings: Settings) -> tuple[int | None, int | None]:
    """Return when the guards of a home looked last, real time, and how far event time had come for them then.

    None: never, or nobody can read it.
    """
    try:
        report = read_report(settings)
    except MillraceError:
        return None, None
    return (None, None) if report is None else (report.at_ms, report.event_ms or None)


def guard_words(guards: tuple[GuardFigures, ...], looked: str = "") -> str:
    """Return in a line what the guards say of the ranker that serves, and when they said it."""
    if not guards:
        return "guards: they have not looked yet at a ranker that serves"
    at = looked and f", at {looked}"
    alarmed = [guard.words for guard in guards if guard.is_alarmed]
    n_waiting, n_warning = (sum(guard.state == state for guard in guards) for state in ("waiting", "warning"))
    if alarmed:
        return "guards: ALARM: " + "; ".join(alarmed) + at
    return f"guards: none of {len(guards)} alarmed ({n_waiting} wait for more rows, {n_warning} warn){at}"


def _figures(reading: Reading) -> GuardFigures:
    name = f"{reading.guard.replace('_', ' ')} of {reading.of}"
    done = f", {reading.n_positives:,} times done" if reading.guard in {"auc", "calibration"} else ""
    words = f"{name}: too little to tell ({reading.n_rows:,} rows{done})"
    if reading.state != "waiting":
        asked = "only warns" if reading.threshold is None else f"threshold {reading.threshold:g}"
        words = f"{name} is {reading.value:.3g} ({asked}), {reading.state}"
    return GuardFigures(name=name, state=reading.state, is_alarmed=reading.state in _ALARMED, words=words)
