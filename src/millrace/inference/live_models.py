"""Models that serve, kept up to date with the registry: load, check, warm, swap, drain.

A thread looks at the registry's pointer four times a second. What a lane should serve and does not is verified sum by
sum, checked, loaded and warmed beside what serves; then one assignment puts it in its place. A request holds what it
began with to its end (`LiveModels.lease`), and what was replaced is closed when its last request has ended. What fails
on the way is refused: the old one goes on, and the reason is logged, kept, told to the observer and written to the
registry's history. It is tried again when the pointer changes, and without that after a while, twice as long each time:
a full disk, a file that was not there yet or memory that was short are reasons that pass.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, TypeVar

from millrace.base.backoff import Backoff
from millrace.base.clock import Clock, SystemClock
from millrace.base.errors import MillraceError, NotReadyError
from millrace.inference.model_events import LaneStatus, ModelEvent
from millrace.registry.errors import ArtefactError, RegistryError
from millrace.registry.manifest import Kind, Manifest
from millrace.registry.pointer import DEFAULT_LANE, Pointer, Versions
from millrace.registry.registry import Registry

EVERY_S: Final = 0.25
FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 300.0
_NICENESS: Final = 19

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Artefact:
    """One version on disk, every sum checked."""

    path: Path
    manifest: Manifest


Artefacts = Mapping[Kind, Artefact]


class _Held(Generic[T]):
    """A loaded bundle and how many requests hold it; its fields change under the lock of `LiveModels`."""

    __slots__ = ("bundle", "is_retired", "n_leases", "versions")

    def __init__(self, bundle: T, versions: Versions) -> None:
        self.bundle = bundle
        self.versions = versions
        self.n_leases = 0
        self.is_retired = False


class LiveModels(Generic[T]):
    """What serves each lane, replaced while requests run. Lanes of the same versions share one bundle.

    Parameters
    ----------
    registry
        Whose pointer is followed.
    load
        Makes a bundle of artefacts, by kind. This and the next three run in the following thread.
    check
        Says what is wrong with artefacts before they are loaded (another feature schema, a kind that is missing);
        None: nothing.
    warm
        Runs a bundle once, so that no request pays for that; an error refuses it.
    close
        Lets go of a bundle that nobody uses any more.
    observe
        Hears of every swap, refusal and close; for metrics. Called in the following thread, or in that of the last
        lease where none follows.
    clock
        Its event time stamps refusals in the registry's history; its real time says when they are tried again.
    gives_way
        Whether the following thread runs when no other thread of the machine wants its core, and pages are answered
        meanwhile as if nothing were loaded. Threads that are started by what it loads would inherit that.
    """

    def __init__(
        self,
        registry: Registry,
        load: Callable[[Artefacts], T],
        *,
        check: Callable[[Artefacts], str | None] = lambda _artefacts: None,
        warm: Callable[[T], None] = lambda _bundle: None,
        close: Callable[[T], None] = lambda _bundle: None,
        observe: Callable[[ModelEvent], None] = lambda _event: None,
        clock: Clock | None = None,
        gives_way: bool = False,
    ) -> None:
        self._registry = registry
        self._load = load
        self._check = check
        self._warm = warm
        self._close = close
        self._observe = observe
        self._clock = clock or SystemClock()
        self._gives_way = gives_way
        self._lock = threading.Lock()  # of everything that a lease reads or changes; held for a moment only
        self._held_by_lane: dict[str, _Held[T]] = {}
        self._polling = threading.Lock()  # one load at a time
        self._seen: bytes | None = None
        self._retry = Backoff(self._clock, FIRST_RETRY_S, LONGEST_RETRY_S)
        self._wanted: dict[str, Versions] = {}
        self._problem_by_lane: dict[str, str] = {}
        self._pointer_problem = ""
        self._drained: deque[_Held[T]] = deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def lease(self, lane: str = DEFAULT_LANE) -> Iterator[T]:
        """Give the bundle that serves a lane now; it stays open until the block ends, whatever is promoted meanwhile.

        A lane that is not there, or of which nothing could be loaded, is served as the default one.

        Raises
        ------
        NotReadyError
            If nothing serves.
        """
        with self._lock:
            held = self._held_by_lane.get(lane) or self._held_by_lane.get(DEFAULT_LANE)
            if held is not None:
                held.n_leases += 1
        if held is None:
            raise NotReadyError("models", problem="none serve", remedy="promote some: `millrace models promote`")
        try:
            yield held.bundle
        finally:
            with self._lock:
                held.n_leases -= 1
                is_drained = held.is_retired and held.n_leases == 0
            if is_drained:
                self._let_go(held)

    def versions(self, lane: str = DEFAULT_LANE) -> Versions:
        """Return the versions that serve a lane's requests now; empty if nothing does."""
        with self._lock:
            held = self._held_by_lane.get(lane) or self._held_by_lane.get(DEFAULT_LANE)
            return {} if held is None else held.versions

    def bundles(self) -> list[T]:
        """Return what serves the lanes now, each bundle once; any may be closed at any time, so only look at them."""
        with self._lock:
            return [held.bundle for held in dict.fromkeys(self._held_by_lane.values())]

    def bundles_by_lane(self) -> dict[str, T]:
        """Return what serves each lane now; as `bundles`, only to look at."""
        with self._lock:
            return {lane: held.bundle for lane, held in self._held_by_lane.items()}

    def status(self) -> dict[str, LaneStatus]:
        """Return how every lane of the pointer stands, and the default one."""
        with self._lock:
            found = {}
            for lane in dict.fromkeys((DEFAULT_LANE, *self._wanted, *self._held_by_lane)):
                held = self._held_by_lane.get(lane) or self._held_by_lane.get(DEFAULT_LANE)
                found[lane] = LaneStatus(
                    versions={} if held is None else held.versions,
                    wanted=self._wanted.get(lane, {}),
                    problem=self._pointer_problem or self._problem_by_lane.get(lane, ""),
                    n_leases=0 if held is None else held.n_leases,
                    n_refused=self._retry.n_failures if lane in self._problem_by_lane else 0,
                    retry_in_s=self._retry.left_s if lane in self._problem_by_lane else 0.0,
                )
            return found

    def start(self, interval_s: float = EVERY_S) -> None:
        """Follow the pointer in a thread of its own, beginning with a look at once, until `close`."""
        self._thread = threading.Thread(target=self._follow, args=(interval_s,), name="live-models", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, after what it is loading, and close every bundle: one that is in use with its last lease."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._polling:
            self._put({})
        self._close_drained()

    def poll(self) -> bool:
        """Look at the pointer, which takes microseconds, and follow it if it has changed.

        Lanes of which something was refused are tried again when their time has come.

        Returns
        -------
        bool
            Whether it had changed.
        """
        with self._polling:
            self._close_drained()
            if self._is_closing:
                return False
            try:
                data = self._registry.pointer_bytes()
                is_known = data == self._seen
                if is_known and (not self._problem_by_lane or self._retry.left_s):
                    self._pointer_problem = ""
                    return False
                if data is None:
                    raise RegistryError(
                        "pointer to the live models",
                        problem="is not there any more",
                        remedy="promote what should serve; to serve nothing, take kinds out of the lane",
                    )
                pointer = self._registry.decode(data)
            except (RegistryError, OSError) as error:
                self._refuse_pointer(str(error))
                return False
            self._pointer_problem = ""
            self._seen = data
            self._follow_to(pointer, is_retry=is_known)
            return not is_known

    def _follow(self, interval_s: float) -> None:
        if self._gives_way:
            _give_way()
        while not self._is_closing:
            try:
                has_changed = self.poll()
            except Exception:  # whatever happens to it, pages go on with the models that serve
                logger.exception("the models' pointer could not be followed")
                has_changed = False
            if not has_changed:  # else once more at once: it may have changed during the load
                self._wake.wait(interval_s)
                self._wake.clear()

    def _follow_to(self, pointer: Pointer, *, is_retry: bool = False) -> None:
        """Load and swap what the lanes want; ``is_retry``: only what was refused, of which the reasons are known."""
        begun_s = self._clock.monotonic_s()
        wanted = {lane: pointer.serving(lane) for lane in dict.fromkeys((DEFAULT_LANE, *sorted(pointer.lanes)))}
        known = self._problem_by_lane if is_retry else {}
        if not is_retry:
            self._retry.succeed()
            with self._lock:
                self._wanted, self._problem_by_lane = wanted, {}
        reasons: dict[frozenset[tuple[Kind, str]], str] = {}  # lanes of the same versions: one load, one reason
        for lane, versions in wanted.items():
            key = frozenset(versions.items())
            if not versions or self._is_closing or (is_retry and lane not in known):
                continue
            try:
                if key not in reasons:
                    self._serve(lane, versions, begun_s)
                    self._forget_problem(lane)
                    continue
            except Exception as error:
                logger.debug("models refused", exc_info=True)
                reasons[key] = str(error) if isinstance(error, MillraceError) else f"{type(error).__name__}: {error}"
            event = ModelEvent("refused", lane, versions, reasons[key], self._since_s(begun_s))
            if known.get(lane) == event.reason:
                self._tell(replace(event, what="retried"))
            else:
                self._refuse(event, pointer)
        if reasons:
            rest_s = self._retry.fail()
            logger.info("refused models are tried again in %.0f s", rest_s)
        # Last: what a lane leaves behind may be what another one wants.
        self._put({lane: held for lane, held in self._held_by_lane.items() if wanted.get(lane)})
        self._close_drained()

    def _serve(self, lane: str, versions: Versions, begun_s: float) -> None:
        """Let versions serve a lane, loaded if no other lane has them; raises whatever is wrong with them."""
        held = next((held for held in self._held_by_lane.values() if held.versions == versions), None)
        if held is None:
            held = _Held(self._loaded(versions), versions)
            if self._is_overtaken(lane):
                self._close_bundle(held)
                return
        if self._held_by_lane.get(lane) is held:
            return
        self._put({**self._held_by_lane, lane: held})
        took_s = self._since_s(begun_s)
        logger.info("models of lane %s: %s serve after %.0f ms", lane, versions, took_s * 1000)
        self._tell(ModelEvent("swapped", lane, versions, took_s=took_s))

    def _loaded(self, versions: Versions) -> T:
        artefacts: dict[Kind, Artefact] = {}
        for kind, version in versions.items():
            manifest = self._registry.verify(kind, version)
            artefacts[kind] = Artefact(self._registry.folder(kind, version), manifest)
        problem = self._check(artefacts)
        if problem:
            raise ArtefactError("models", value=versions, problem=problem, remedy="promote versions that fit")
        bundle = self._load(artefacts)
        try:
            self._warm(bundle)
        except BaseException:
            self._close(bundle)
            raise
        return bundle

    def _is_overtaken(self, lane: str) -> bool:
        """Tell whether the pointer has gone back, during a load, to what serves the lane anyway."""
        try:
            pointer = self._registry.pointer()
        except (RegistryError, OSError):
            return False
        held = self._held_by_lane.get(lane)
        return held is not None and pointer is not None and pointer.serving(lane) == held.versions

    def _put(self, held_by_lane: dict[str, _Held[T]]) -> None:
        """Let bundles serve from now on; those of which none does any more are retired."""
        with self._lock:
            retired = set(self._held_by_lane.values()) - set(held_by_lane.values())
            self._held_by_lane = held_by_lane
            for held in retired:
                held.is_retired = True
            self._drained.extend(held for held in retired if held.n_leases == 0)

    def _let_go(self, held: _Held[T]) -> None:
        """Close a drained bundle: in the following thread, for that may take longer than a request has."""
        self._drained.append(held)
        if self._thread is None:
            self._close_drained()
        else:
            self._wake.set()

    def _close_drained(self) -> None:
        while self._drained:
            try:
                held = self._drained.popleft()
            except IndexError:  # another thread was faster
                return
            self._close_bundle(held)

    def _close_bundle(self, held: _Held[T]) -> None:
        try:
            self._close(held.bundle)
        except Exception:
            logger.exception("models that were replaced could not be closed: %s", held.versions)
        self._tell(ModelEvent("closed", "", held.versions))

    def _forget_problem(self, lane: str) -> None:
        with self._lock:
            self._problem_by_lane = {other: why for other, why in self._problem_by_lane.items() if other != lane}

    def _refuse(self, event: ModelEvent, pointer: Pointer) -> None:
        with self._lock:
            self._problem_by_lane = {**self._problem_by_lane, event.lane: event.reason}
        logger.error("models of lane %s refused, the old ones go on: %s", event.lane, event.reason)
        self._tell(event)
        try:
            self._registry.record_refusal(
                pointer.change.serial, event.lane, event.versions, event.reason, now_ms=self._clock.now_ms()
            )
        except (RegistryError, OSError) as error:  # a server may have no right to write there
            logger.warning("the refusal could not be written to the models' history: %s", error)

    def _refuse_pointer(self, reason: str) -> None:
        if reason == self._pointer_problem:
            return  # told already; it is looked at four times a second
        self._pointer_problem = reason
        logger.error("%s; until then the models go on that serve", reason)
        self._tell(ModelEvent("refused", "", {}, reason))

    def _tell(self, event: ModelEvent) -> None:
        try:
            self._observe(event)
        except Exception:
            logger.exception("the observer of the models failed")

    def _since_s(self, begun_s: float) -> float:
        return self._clock.monotonic_s() - begun_s


def _give_way() -> None:
    """Let this thread, alone in its process, be the last one that gets a core."""
    if sys.platform == "linux":  # elsewhere a process has one priority
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
