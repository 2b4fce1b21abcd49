"""Metrics of the near-line process: what the guards say of the ranker that serves, and what has been learned."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from millrace.app.metrics import Metrics
from millrace.flywheel.guards.readings import GuardReport, State
from millrace.flywheel.near_line.learner import NearLineLearner

_STATES: Final[dict[State, int]] = {"waiting": 0, "ok": 0, "warning": 1, "confirming": 2, "tripped": 3}


class NearLineMetrics:
    """Gauges and counters of the near-line process.

    Parameters
    ----------
    metrics
        Of the process: these are kept, and shown, with all others.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        metrics.add(self._make)
        self._n_rows = 0

    def _make(self, registry: CollectorRegistry) -> None:
        guards = ("guard", "of")
        self._value = Gauge(
            "millrace_guard_value",
            "What a guard measures of the ranker that serves: of a head, or of a feature.",
            guards,
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._state = Gauge(
            "millrace_guard_state",
            "How a guard stands: 0 well or waiting for evidence, 1 warning, 2 beyond the threshold and being "
            "confirmed, 3 tripped.",
            guards,
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._rollbacks = Counter(
            "millrace_guard_rollbacks", "Rankers that were taken away, by guard.", ("guard",), registry=registry
        )
        self._rows = Counter(
            "millrace_near_line_rows", "Posts that were seen and learned from near-line.", registry=registry
        )
        self._open = Gauge(
            "millrace_near_line_open_heads",
            "Heads for which a part (calibration, fast) has proved its worth and is used.",
            ("part",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._lag = Gauge(
            "millrace_near_line_lag_records",
            "Records of the log that are not kept as learned yet.",
            multiprocess_mode="livemax",
            registry=registry,
        )

    def tell(self, report: GuardReport, learner: NearLineLearner, *, lag: int) -> None:
        """Set everything as a report says, of the version that served last."""
        child = self._metrics.labelled
        for reading in report.models[-1].readings if report.models else ():
            if reading.state != "waiting":
                child(self._value, reading.guard, reading.of).set(reading.value)
            child(self._state, reading.guard, reading.of).set(_STATES[reading.state])
        newest = next(reversed(report.open_heads.values()), {})
        for part in ("calibration", "fast"):
            child(self._open, part).set(len(newest.get(part, ())))
        self._rows.inc(learner.n_rows - self._n_rows)
        self._n_rows = learner.n_rows
        self._lag.set(lag)

    def rolled_back(self, guard: str) -> None:
        """Count a ranker that was taken away."""
        self._metrics.labelled(self._rollbacks, guard).inc()
