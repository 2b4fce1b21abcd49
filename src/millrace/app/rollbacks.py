"""`Rollbacks`: carries out what the guards find, and finishes what whoever was killed has left half done.

A withdrawal is two writes, the registry's list of bad versions and its pointer, and an event in the log that tells of
it. The list comes first. So from it alone each of the others can be made good at any later look: a version that stands
in it and serves is taken out of the lanes once more, and what no log has been told yet is told, under the same name.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from millrace.base.clock import Clock
from millrace.events.model_events import ModelWithdrawn
from millrace.flywheel.guards.config import GuardsConfig
from millrace.flywheel.guards.monitor import GuardMonitor
from millrace.flywheel.guards.readings import BY_GUARD, ModelReadings, Trip
from millrace.registry.pointer import DEFAULT_LANE, Pointer
from millrace.registry.registry import Registry
from millrace.registry.withdrawals import Withdrawal

if TYPE_CHECKING:
    from millrace.app.near_line_metrics import NearLineMetrics

_KIND: Final = "ranker"
_SETTLE_S: Final = 60.0
"""A version that still serves so long after it was taken away was promoted again, by a person."""
_MAX_REASON: Final = 2_000
_MAX_GUARD: Final = 200

logger = logging.getLogger(__name__)


class Rollbacks:
    """Takes rankers away from the feed, once a guard has tripped.

    Parameters
    ----------
    registry
        Whose rankers are guarded.
    monitor
        Says which must go.
    config
        Whether they do.
    clock
        Real time.
    metrics
        Count.
    """

    def __init__(
        self,
        registry: Registry,
        monitor: GuardMonitor,
        config: GuardsConfig,
        clock: Clock,
        metrics: NearLineMetrics | None = None,
    ) -> None:
        self._registry, self._monitor, self._config, self._clock = registry, monitor, config, clock
        self._metrics = metrics
        self._withdrawn_s: dict[str, float] = {}
        self._warned: set[str] = set()
        self._told: set[str] = set()

    def look(self) -> tuple[list[ModelReadings], list[Trip], bool]:
        """Let the guards look, and take away what must go.

        Returns
        -------
        readings, trips
            What the guards say, and which of it was new.
        has_changed
            Whether something is to be kept now: a start would try anew what was judged.
        """
        standing = self._standing()
        finished = self._finish(standing)
        # What somebody rolled back by hand is no measure of what comes after it.
        for version in standing:
            self._monitor.take_away(version)
        found, trips = self._monitor.look()
        for trip in trips:
            self._act(trip)
        has_begun = self._watch_again()
        return found, trips, bool(finished or trips or has_begun)

    def untold(self) -> dict[str, ModelWithdrawn]:
        """Return what a guard has taken away and no log was told of, by the name under which it is to be told."""
        found = {}
        for version, said in self._standing().items():
            if said.reason.startswith(BY_GUARD) and (name := _name(said)) not in self._told:
                instead = _serves(self._registry.pointer(), DEFAULT_LANE)
                guard = said.reason.removeprefix(BY_GUARD).partition(":")[0]
                found[name] = ModelWithdrawn(
                    kind=_KIND,
                    version=version,
                    guard=guard[:_MAX_GUARD],
                    reason=said.reason[:_MAX_REASON],
                    instead=instead,
                )
        return found

    def tell(self, names: list[str]) -> bool:
        """Know that a log has these; return whether that was news."""
        news = set(names) - self._told
        self._told |= news
        return bool(news)

    def array(self) -> npt.NDArray[Any]:
        """Return what was told, as it is kept."""
        return np.frombuffer("\0".join(sorted(self._told)).encode(), dtype=np.uint8)

    def load(self, told: npt.NDArray[Any]) -> None:
        """Take over what `array` gave."""
        text = told.tobytes().decode()
        self._told = set(text.split("\0")) if text else set()

    def _standing(self) -> dict[str, Withdrawal]:
        return {version: said for (kind, version), said in self._registry.withdrawn().items() if kind == _KIND}

    def _finish(self, standing: dict[str, Withdrawal]) -> list[str]:
        """Take out of the lanes what is withdrawn and serves: who withdrew it was killed between the two."""
        pointer = self._registry.pointer()
        lanes = pointer.lanes.values() if pointer else ()
        left = [version for version in standing if any(lane.versions.get(_KIND) == version for lane in lanes)]
        for version in left:
            self._withdraw(version, standing[version].reason)
        return left

    def _act(self, trip: Trip) -> None:
        if not self._config.rolls_back or trip.model not in self._registry.versions(_KIND):
            if trip.model not in self._warned:
                self._warned.add(trip.model)
                logger.warning("ranker %s should go (%s), and is left where it is", trip.model, trip.reason)
            return
        self._withdraw(trip.model, trip.reason)
        if self._metrics is not None:
            self._metrics.rolled_back(trip.reading.guard)

    def _withdraw(self, version: str, reason: str) -> None:
        made = self._registry.withdraw(_KIND, version, now_ms=self._clock.now_ms(), reason=reason)
        self._monitor.take_away(version)
        self._withdrawn_s[version] = self._clock.monotonic_s()
        for lane, pointer in made.items():
            serves = _serves(pointer, lane) or "none: counters rank"
            logger.warning("ranker %s was taken away from lane %s (%s); now: %s", version, lane, reason, serves)

    def _watch_again(self) -> bool:
        """Watch what was taken away and serves again as new: a person has promoted it all the same. Tell if any was."""
        if not self._monitor.gone:
            return False
        begun = False
        pointer = self._registry.pointer()
        serving = {_serves(pointer, lane) for lane in pointer.lanes} if pointer else set()
        for version in self._monitor.gone.intersection(serving):
            since_s = self._clock.monotonic_s() - self._withdrawn_s.get(version, float("-inf"))
            if since_s > _SETTLE_S:
                self._monitor.begin_again(version)
                begun = True
        return begun


def _name(said: Withdrawal) -> str:
    return f"withdrawn-{said.kind}-{said.version}-{said.serial}"


def _serves(pointer: Pointer | None, lane: str) -> str:
    return pointer.serving(lane).get(_KIND, "") if pointer else ""
