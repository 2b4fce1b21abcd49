"""The near-line process: learns from each look and action, tells the servers, and guards the rankers that serve.

One a home, a child of the supervisor beside keeper and workers. It follows four topics of the log (what models saw,
looks, actions, erasures, ticks), appends what it has learned as events that every replica folds
(`millrace.events.near_line_events`), and takes a ranker away on which a guard has tripped (`Registry.withdraw`).
Killed at any moment it goes on from what it kept last, learner and guards at one place of the log; the same values are
then told again, which changes nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from millrace.app.rollbacks import Rollbacks
from millrace.app.settings import Settings
from millrace.app.virtual_time import TICK_TOPIC
from millrace.base.atomic_file import replacing
from millrace.base.clock import Clock, VirtualClock
from millrace.base.errors import LogError, MillraceError
from millrace.base.ids import IdHasher, IdKind
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent, Event, Payload
from millrace.events.feed_events import ClockTick
from millrace.events.model_events import ModelWithdrawn
from millrace.events.user_events import UserErased
from millrace.flywheel.guards.config import GuardsConfig
from millrace.flywheel.guards.monitor import GuardMonitor
from millrace.flywheel.guards.readings import GuardReport, Trip
from millrace.flywheel.near_line.config import NearLineConfig
from millrace.flywheel.near_line.learner import HEARD, NearLineLearner
from millrace.registry.registry import Registry
from millrace.stores.applier import decode_records
from millrace.stream.collector import Collector
from millrace.stream.log import Log, Position, total

if TYPE_CHECKING:
    from millrace.app.near_line_metrics import NearLineMetrics

GROUP: Final = "near_line"
LOCK_FILE: Final = "near_line.lock"
_OF_GUARDS: Final = "guards."
STATE_FILE: Final = "near_line.npz"
REPORT_FILE: Final = "guards.json"
_TOLD: Final = "told"
_VERSION: Final = 2
_POLL_RECORDS: Final = 2_000
_POLL_S: Final = 0.05
_KEEP_EVERY_S: Final = 60.0
_NICENESS: Final = 5

logger = logging.getLogger(__name__)


class NearLine:
    """The near-line process's work, in turns; the process around it is `run_near_line`.

    Parameters
    ----------
    log, codec, clock
        As everywhere; a virtual clock is moved by the ticks that are heard here.
    learner, monitor
        What learns, and what watches; None: nothing does.
    registry
        Whose rankers are guarded.
    collector
        The door for what has been learned.
    config, guards
        How often.
    state_path, report_path
        Where the learner is kept, and what the guards say.
    real_clock
        Real time: of the registry's history and of how often.
    metrics
        Of this process.
    """

    def __init__(
        self,
        log: Log,
        codec: EventCodec,
        clock: Clock,
        learner: NearLineLearner,
        monitor: GuardMonitor | None,
        registry: Registry,
        collector: Collector,
        config: NearLineConfig,
        guards: GuardsConfig,
        state_path: Path,
        report_path: Path,
        real_clock: Clock,
        metrics: NearLineMetrics | None = None,
    ) -> None:
        self._log, self._codec, self._clock = log, codec, clock
        self._learner, self._monitor, self._registry, self._collector = learner, monitor, registry, collector
        self._config, self._guards = config, guards
        self._state_path, self._report_path = state_path, report_path
        self._real = real_clock
        self._metrics = metrics
        self._hasher = IdHasher()
        topics = tuple(dict.fromkeys(t.topic for t in codec.registry if t.payload in HEARD))
        self._consumer = log.subscribe(GROUP, topics=(*topics, TICK_TOPIC), start=log.end())
        self._published_s = self._looked_s = self._kept_s = self._began_s = real_clock.monotonic_s()
        self._kept_at: Position = self._consumer.position
        self._run = secrets.token_hex(8)  # no two processes, not even of one number and moment, name events alike
        self._n_published = 0
        self._untold: list[AnyEvent] = []
        self._rollbacks = None if monitor is None else Rollbacks(registry, monitor, guards, real_clock, metrics)

    @property
    def position(self) -> Position:
        """The next record to hear."""
        return self._consumer.position

    def start(self) -> None:
        """Go on from what was kept; where nothing usable was, begin anew at the log's end."""
        try:
            with np.load(self._state_path) as kept:
                arrays = {name: kept[name] for name in kept.files}
            version, position = int(arrays.pop("version")[0]), (int(arrays.pop("position")[0]),)
            is_ours = arrays.pop("log_id").tobytes().decode() == self._log.log_id and version == _VERSION
            if not is_ours or not total(self._log.begin()) <= total(position) <= total(self._log.end()):
                raise ValueError("of another log, or of another time")
            told = arrays.pop(_TOLD, np.zeros(0, dtype=np.uint8))  # none, as it was kept before
            of_guards = {n.removeprefix(_OF_GUARDS): arrays.pop(n) for n in list(arrays) if n.startswith(_OF_GUARDS)}
            self._learner.load(arrays)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError) as error:
            logger.warning("what the near-line learner kept cannot be used (%s): it begins anew", error)
            return
        self._consumer.seek(position)
        self._kept_at = position
        if self._rollbacks is not None:
            self._rollbacks.load(told)
        if self._monitor is not None:
            try:
                self._monitor.load(of_guards)
            except (ValueError, KeyError) as error:  # with what msgspec raises
                logger.warning("what the guards had gathered cannot be used (%r): they gather anew", error)

    def turn(self) -> bool:
        """Hear the next records and do what is due; return whether there were any."""
        records = self._consumer.poll(_POLL_RECORDS)
        if len(records):
            batch, _ = decode_records(records, self._codec.decode)
            for event, appended_ms in zip(batch.events, batch.appended_ms.tolist(), strict=True):
                self._hear(event, min(event.event_time_ms, appended_ms))
        elif not isinstance(self._clock, VirtualClock):
            self._learner.advance(self._clock.now_ms())  # nothing happens, and time goes on
        now_s = self._real.monotonic_s()
        if now_s - self._published_s >= self._config.publish_every_ms / 1000:
            self._published_s = now_s
            self.publish()
        if now_s - self._looked_s >= self._guards.evaluate_every_s:
            self._looked_s = now_s
            self.look()
        if now_s - self._kept_s >= _KEEP_EVERY_S:
            self._kept_s = now_s
            self.keep()
        return len(records) > 0

    def publish(self) -> int:
        """Append what the servers do not know yet; return how many events that took."""
        events = self._untold  # of a log that took nothing: first of all those, under the same names
        if not events:
            events.extend(self._event(payload) for payload in self._learner.updates())
        if not events:
            return 0
        receipt = self._collector.submit(events)
        self._untold = []
        told = [event.event_id for event in events if isinstance(event.payload, ModelWithdrawn)]
        if self._rollbacks is not None and self._rollbacks.tell(told):
            self.keep(is_urgent=True)
        if receipt.n_refused:
            reasons = {result.error for result in receipt if result.status == "refused"}
            logger.warning("what was learned near-line is refused: %s", "; ".join(sorted(reasons)))
        return len(events)

    def _event(self, payload: Payload, name: str = "") -> AnyEvent:
        if not name:
            self._n_published += 1
            name = f"near-line-{self._run}-{self._n_published}"
        time_ms = self._learner.now_ms or self._clock.now_ms()
        return Event(event_id=name, event_time_ms=time_ms, source=GROUP, payload=payload)

    def look(self) -> list[Trip]:
        """Let the guards look, take away what must go, and write down what they say; return what has tripped."""
        if self._rollbacks is None:
            return []
        found, trips, has_changed = self._rollbacks.look()
        waiting = {event.event_id for event in self._untold}
        # It is done: that it is told can wait for the log.
        self._untold += [
            self._event(payload, name) for name, payload in self._rollbacks.untold().items() if name not in waiting
        ]
        if has_changed:
            self.keep(is_urgent=True)
        withdrawn = {f"{k} {v}": said.reason for (k, v), said in self._registry.withdrawn().items()}
        elapsed_s = max(self._real.monotonic_s() - self._began_s, 1e-9)
        report = GuardReport(
            at_ms=self._real.now_ms(),
            event_ms=self._learner.now_ms,
            cpu_share=time.process_time() / elapsed_s,
            open_heads={model: _open_heads(self._learner, model) for model in self._learner.layers},
            models=tuple(found),
            withdrawn=withdrawn,
        )
        self._report_path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._report_path) as file:
            file.write(msgspec.json.encode(report))
        if self._metrics is not None:
            self._metrics.tell(report, self._learner, lag=self._log.lag(GROUP))
        return trips

    def keep(self, *, is_urgent: bool = False) -> None:
        """Keep what was learned and gathered, with the place in the log that it stands at; tell the log where that is.

        Where nothing was heard since, only if it ``is_urgent``.
        """
        position = self._consumer.position
        if position == self._kept_at and not is_urgent:
            return
        arrays = self._learner.arrays()
        if self._monitor is not None:
            arrays.update({f"{_OF_GUARDS}{name}": array for name, array in self._monitor.arrays().items()})
        if self._rollbacks is not None:
            arrays[_TOLD] = self._rollbacks.array()
        arrays["version"] = np.array([_VERSION])
        arrays["position"] = np.array([total(position)])
        arrays["log_id"] = np.frombuffer(self._log.log_id.encode(), dtype=np.uint8)
        self._state_path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._state_path) as file:
            np.savez(file, allow_pickle=False, **arrays)
        self._consumer.commit(position)
        self._kept_at = position

    def stop(self) -> None:
        """Hear what is left, tell it, keep it, and end."""
        while self.turn():
            pass
        self.publish()
        self.keep()
        self._consumer.close()

    def _hear(self, event: AnyEvent, time_ms: int) -> None:
        if isinstance(event.payload, ClockTick):
            if isinstance(self._clock, VirtualClock):
                self._clock.tick_to(event.payload.now_ms)
                self._learner.advance(event.payload.now_ms)
            return
        self._learner.hear(time_ms, event)
        if isinstance(event.payload, UserErased) and self._monitor is not None:
            self._monitor.forget(self._hasher.one(IdKind.USER, event.payload.user_id))


def _open_heads(learner: NearLineLearner, model: str) -> dict[str, list[str]]:
    layer, names = learner.layers[model], learner.action_names
    gates = {"calibration": layer.calibration_gain.is_open, "fast": layer.fast_gain.is_open}
    return {part: [names[head] for head in np.flatnonzero(is_open).tolist()] for part, is_open in gates.items()}


def build_near_line(settings: Settings) -> NearLine:
    """Return the near-line process's work over a home."""
    from millrace.app import wiring
    from millrace.app.near_line_metrics import NearLineMetrics

    config, guards = settings.config.near_line, settings.config.guards
    clock, codec, actions = (
        wiring.build_event_clock(settings),
        wiring.build_codec(settings),
        wiring.build_actions(settings),
    )
    log = wiring.build_log(settings, clock)
    monitor = GuardMonitor(guards, actions) if guards.is_on else None
    learner = NearLineLearner(
        config,
        IdHasher(),
        actions,
        settings.config.stores.engagements.dwell,
        () if monitor is None else (monitor,),
    )
    return NearLine(
        log,
        codec,
        clock,
        learner,
        monitor,
        wiring.build_registry(settings),
        wiring.build_collector(settings, log, codec, clock),
        config,
        guards,
        settings.data_dir / STATE_FILE,
        settings.run_dir / REPORT_FILE,
        wiring.build_clock(),
        NearLineMetrics(wiring.build_metrics(settings)),
    )


def is_wanted(settings: Settings) -> bool:
    """Return whether a home's config wants the process."""
    return settings.config.near_line.is_on or settings.config.guards.is_on


def run_near_line(
    settings: Settings,
    *,
    should_stop: Callable[[], bool],
    wait: Callable[[float], None] = time.sleep,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Be the near-line process of a home until ``should_stop`` says so.

    Parameters
    ----------
    settings
        The home.
    should_stop
        Asked between turns.
    wait
        Sleeps up to so many seconds, or until there is a reason not to.
    on_ready
        Called once, when it is about to begin: nobody waits for what it has to catch up with.
    """
    os.nice(_NICENESS)
    on_ready()
    with _alone(settings.data_dir / LOCK_FILE, should_stop, wait) as is_mine:
        if not is_mine:
            return
        near_line = build_near_line(settings)
        near_line.start()
        while not should_stop():
            try:
                was_busy = near_line.turn()
            except LogError as error:  # a full disk: what was learned is told later
                logger.warning("%s", error)
                was_busy = False
            if not was_busy:
                wait(_POLL_S)
        near_line.stop()


def read_report(settings: Settings) -> GuardReport | None:
    """Return what the guards of a home said last; None where they never did.

    Raises
    ------
    MillraceError
        If the file is damaged.
    """
    path = settings.run_dir / REPORT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=GuardReport)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise MillraceError(
            "guards' report", value=str(path), problem=f"is damaged ({error})", remedy="remove it; it is written anew"
        ) from error


@contextmanager
def _alone(path: Path, should_stop: Callable[[], bool], wait: Callable[[float], Any]) -> Iterator[bool]:
    """Hold the process's lock; yield whether it could be had before ``should_stop``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file: IO[str]
    with path.open("a+") as file:
        is_mine = False
        while not is_mine and not should_stop():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_mine = True
            except BlockingIOError:
                wait(_POLL_S)  # the one before us is about to end
        yield is_mine
