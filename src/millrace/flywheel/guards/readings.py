"""What guards say: `Reading`, one figure against its threshold; `Trip`, that a version must go, and why."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

GuardName = Literal["auc", "auc_drop", "auc_deficit", "calibration", "prediction_drift", "feature_drift"]
State = Literal["waiting", "ok", "warning", "confirming", "tripped"]

BY_GUARD: Final = "guard "
"""How every reason begins for which a guard takes a version away."""


class Reading(Struct, frozen=True, kw_only=True):
    """One guard of one head or feature.

    Attributes
    ----------
    guard
        Which: ``auc`` of live traffic; ``auc_drop``, below the version before; ``auc_deficit``, below the counters on
        the same rows; ``calibration``, predicted over happened; ``prediction_drift`` and ``feature_drift``, population
        stability indexes.
    of
        The head, or the dense feature.
    value, low, high
        The figure and its interval; drift has none.
    threshold
        Where it trips; None: it only warns.
    state
        waiting: too little evidence. warning: worth a look. confirming: beyond the threshold, but not often enough yet.
    n_rows, n_positives
        What it rests on.
    """

    guard: GuardName
    of: str
    value: float
    low: float
    high: float
    threshold: float | None
    state: State
    n_rows: int
    n_positives: int = 0


class Trip(Struct, frozen=True, kw_only=True):
    """A version that must not serve any more."""

    model: str
    reading: Reading

    @property
    def reason(self) -> str:
        """Say why, for people."""
        r = self.reading
        words = {
            "auc": f"AUC of {r.of} on live traffic is {r.value:.3f}, at most {r.high:.3f}",
            "auc_drop": f"AUC of {r.of} is {-r.value:.3f} below that of before, at least {-r.high:.3f}",
            "auc_deficit": f"AUC of {r.of} is {-r.value:.3f} below the counters', at least {-r.high:.3f}",
            "calibration": f"predicted over happened of {r.of} is {r.value:.2f}, from {r.low:.2f} to {r.high:.2f}",
            "prediction_drift": f"predictions of {r.of} have drifted: index {r.value:.2f}",
            "feature_drift": f"feature {r.of} has drifted: index {r.value:.2f}",
        }[r.guard]
        return f"{BY_GUARD}{r.guard}: {words}; the threshold is {r.threshold:g}, over {r.n_rows:,} rows"


class ModelReadings(Struct, frozen=True, kw_only=True):
    """All guards of one version."""

    model: str
    n_rows: int
    n_pages: int
    readings: tuple[Reading, ...]


class GuardReport(Struct, frozen=True, kw_only=True):
    """Everything that the guards say, as it is kept for people.

    Attributes
    ----------
    at_ms
        Real time of the look.
    event_ms
        How far event time had come.
    cpu_share
        Of one core, that the process has taken since it began.
    open_heads
        By version and part (calibration, fast): the heads for which it has proved its worth.
    models
        By version, the one that served last at the end.
    withdrawn
        Versions that were taken away, with the reason; never promoted by the machine again.
    """

    at_ms: int
    event_ms: int
    cpu_share: float = 0.0
    open_heads: dict[str, dict[str, list[str]]] = {}
    models: tuple[ModelReadings, ...] = ()
    withdrawn: dict[str, str] = {}
