"""The supervisor: starts the keeper and the workers, starts them again when they die, ends them in order.

A child that has one thing to do (the demo's learner) ends when it is done, and stays away. Keeper and workers are
needed; what learns, joins and guards beside them never takes the feed down. The supervisor does nothing
else, holds no files and runs no threads, because its children are forks of it: they begin with all modules imported and
all kernels loaded, and share that memory. A child ends by itself when the supervisor is gone (`millrace.app.lifeline`),
so that nothing is left behind however the supervisor ends.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Final

from millrace.app.lifeline import Lifeline
from millrace.app.settings import Settings
from millrace.base.errors import ConfigError, MillraceError

MAX_FAILURES_AT_START: Final = 5
"""A child that dies this often before it was ever ready will not get better: the server gives up, if it needs it."""

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 15.0
_HEALTHY_AFTER_S: Final = 30.0
_WORKER_GRACE_S: Final = 15.0
_KEEPER_GRACE_S: Final = 60.0
_LIFE_GRACE_S: Final = 5.0
_JOINER_GRACE_S: Final = 15.0
_BACKLOG: Final = 2048
_GC_THRESHOLD: Final = 100_000
_WELL: Final = "exit code 0"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server answers."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as a URL, without a path."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


@dataclass(slots=True)
class _Slot:
    """One child's place: who stands there, and when the next may start."""

    name: str
    run: Callable[[Lifeline], None]
    grace_s: float
    may_end: bool
    is_needed: bool
    pid: int = 0
    ready_fd: int = -1
    started_s: float = 0.0
    is_ready: bool = False
    was_ready: bool = False
    is_done: bool = False
    n_failures: int = 0
    start_at_s: float = 0.0


class Supervisor:
    """Keeps a set of child processes alive.

    Parameters
    ----------
    on_forget
        Called with the process id of every child that has ended.
    """

    def __init__(self, on_forget: Callable[[int], None] = lambda _pid: None) -> None:
        self._slots: list[_Slot] = []
        self._on_forget = on_forget
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        self._stop_signal = 0

    def add(
        self,
        name: str,
        run: Callable[[Lifeline], None],
        grace_s: float,
        *,
        may_end: bool = False,
        is_needed: bool = True,
    ) -> None:
        """Add a child; children end in reverse order of their addition.

        Parameters
        ----------
        name
            For people.
        run
            What it does.
        grace_s
            How long it may take to end when it is told to.
        may_end
            One that returns by itself is done and not started again; one that fails is.
        is_needed
            Whether pages cannot be served without it. Nobody waits for one that is not, and however often it dies, it
            is started again.
        """
        self._slots.append(_Slot(name, run, grace_s, may_end, is_needed))

    def processes(self) -> dict[str, int]:
        """Return the process ids of the living children by name."""
        return {slot.name: slot.pid for slot in self._slots if slot.pid}

    def run(self, on_ready: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT; return the signal's number.

        Raises
        ------
        MillraceError
            If a child that is needed dies again and again before it was ever ready.
        """
        is_announced = False
        with self._signals():
            try:
                while not self._stop_signal:
                    self._start_due()
                    self._wait()
                    self._notice_ready()
                    self._reap()
                    self._give_up_if_hopeless()
                    if not is_announced and all(
                        slot.is_ready or slot.is_done or not slot.is_needed for slot in self._slots
                    ):
                        is_announced = True
                        on_ready()
            finally:
                self._end_all()
                for descriptor in (
                    self._lifeline_read,
                    self._lifeline_write,
                    self._wake_read,
                    self._wake_write,
                ):
                    os.close(descriptor)
        return self._stop_signal

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for slot in self._slots:
            if not slot.pid and not slot.is_done and slot.start_at_s <= now_s:
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        ready_read, ready_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12+ counts BLAS's idle threads; they hold no locks of ours and survive a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Signals wait until the child has handlers of its own: one that came in between would be lost.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(ready_read)
                self._become_child()
                lifeline = Lifeline(self._lifeline_read, ready_write)
                lifeline.catch_signals()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                slot.run(lifeline)
                code = 0
            except MillraceError as error:
                logger.error("%s ends: %s", slot.name, error)
            except BaseException:  # noqa: BLE001 - the last frame of a process: tell, and end
                traceback.print_exc()
            finally:
                with contextlib.suppress(OSError, ValueError):
                    logging.shutdown()
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(ready_write)
        slot.pid, slot.ready_fd, slot.started_s, slot.is_ready = pid, ready_read, time.monotonic(), False

    def _become_child(self) -> None:
        # Folding makes many objects and no cycles: collections every few hundred objects would cost a third of it.
        gc.set_threshold(_GC_THRESHOLD, 20, 50)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (self._lifeline_write, self._wake_read, self._wake_write):
            os.close(descriptor)
        for slot in self._slots:
            if slot.ready_fd >= 0:
                os.close(slot.ready_fd)

    def _wait(self) -> None:
        now_s = time.monotonic()
        pauses = [slot.start_at_s - now_s for slot in self._slots if not slot.pid and not slot.is_done]
        timeout_s = max(0.0, min([1.0, *pauses]))
        waiting = [self._wake_read, *(s.ready_fd for s in self._slots if s.ready_fd >= 0 and not s.is_ready)]
        if self._wake_read in select.select(waiting, [], [], timeout_s)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)

    def _notice_ready(self) -> None:
        for slot in self._slots:
            if slot.pid and not slot.is_ready and select.select([slot.ready_fd], [], [], 0)[0]:
                if os.read(slot.ready_fd, 1):
                    slot.is_ready = slot.was_ready = True
                    logger.info("%s is ready (process %d)", slot.name, slot.pid)
                else:  # it is ending; keep select from returning at once until it can be reaped
                    time.sleep(0.01)

    def _reap(self) -> None:
        for slot in self._slots:
            if slot.pid and (status := _ended(slot.pid)) is not None:
                self._bury(slot)
                if slot.may_end and status == _WELL:
                    slot.is_done = True
                    logger.info("%s is done", slot.name)
                    continue
                is_healthy = slot.is_ready and time.monotonic() - slot.started_s >= _HEALTHY_AFTER_S
                slot.n_failures = 1 if is_healthy else slot.n_failures + 1
                doublings = slot.n_failures - 2
                pause_s = 0.0 if doublings < 0 else min(_FIRST_PAUSE_S * 2**doublings, _LONGEST_PAUSE_S)
                slot.start_at_s = time.monotonic() + pause_s
                logger.warning("%s ended with %s; it starts again in %.1f s", slot.name, status, pause_s)

    def _bury(self, slot: _Slot) -> None:
        os.close(slot.ready_fd)
        self._on_forget(slot.pid)
        slot.pid, slot.ready_fd = 0, -1

    def _give_up_if_hopeless(self) -> None:
        for slot in self._slots:
            if slot.is_needed and not slot.was_ready and slot.n_failures >= MAX_FAILURES_AT_START:
                raise MillraceError(
                    "server process",
                    value=slot.name,
                    problem=f"ended {slot.n_failures} times before it was ready",
                    remedy="see its messages above; `millrace doctor` looks for causes",
                )

    def _end_all(self) -> None:
        groups = [
            [s for s in self._slots if s.name != self._slots[0].name],
            self._slots[:1],
        ]  # the first child (the keeper) outlives those that still write to the log
        for group in groups:
            for slot in group:
                if slot.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(slot.pid, signal.SIGTERM)
            deadline_s = time.monotonic() + max((slot.grace_s for slot in group), default=0.0)
            killed: set[int] = set()
            while any(slot.pid for slot in group):
                for slot in group:
                    if slot.pid and _ended(slot.pid) is not None:
                        self._bury(slot)
                    elif slot.pid and slot.pid not in killed and time.monotonic() > deadline_s:
                        killed.add(slot.pid)
                        logger.warning("%s did not end in time and is killed", slot.name)
                        os.kill(slot.pid, signal.SIGKILL)
                time.sleep(0.005)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTERM, self._on_stop),
                (signal.SIGINT, self._on_stop),
                (signal.SIGCHLD, lambda _number, _frame: None),
            )
        }
        wakeup_before = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = number


def serve(
    settings: Settings,
    n_workers: int | None = None,
    on_ready: Callable[[Address], None] = lambda _address: None,
    life: Callable[[Address, Lifeline], None] | None = None,
    learner: Callable[[Lifeline], None] | None = None,
) -> int:
    """Serve a home until SIGTERM or SIGINT; return the signal's number.

    Parameters
    ----------
    settings
        The home.
    n_workers
        Serving processes; by default as configured.
    on_ready
        Called in this process once every child is ready. It must not leave threads behind.
    life
        What else is to be a child, using the server from outside: the demo's world.
    learner
        What trains models beside the server, if anything does; it ends when it is done.

    Raises
    ------
    ConfigError
        If the address cannot be bound, or is not loopback in a home that lives in virtual time
        (`millrace.app.virtual_time.enter_virtual_time`).
    MillraceError
        If the keeper or a worker dies again and again before it was ever ready.
    """
    from millrace.app import metrics, wiring
    from millrace.app.keeper_process import run_keeper
    from millrace.app.server_note import leave_note
    from millrace.app.virtual_time import check_virtual_time, has_virtual_time
    from millrace.app.warm_up import warm_up
    from millrace.app.worker import run_worker

    if has_virtual_time(settings):
        check_virtual_time(settings.config)
    listening = bind(settings.config.server.host, settings.config.server.port)
    host, port = listening.getsockname()[:2]
    shared_dir = wiring.metrics_dir(settings)
    metrics.prepare_shared_dir(shared_dir)
    leave_note(settings, Address(host, port), learns=learner is not None and settings.config.flywheel.learns)
    warm_up(settings)
    gc.collect()
    gc.freeze()  # so that collections in the children do not touch, and copy, what they share

    supervisor = Supervisor(lambda pid: metrics.forget_process(shared_dir, pid))
    have_all_been_ready = False

    def keep(lifeline: Lifeline) -> None:
        listening.close()
        run_keeper(
            settings,
            should_stop=lifeline.should_stop,
            wait=lifeline.wait,
            should_checkpoint=lifeline.should_checkpoint,
            on_ready=lifeline.say_ready,
            waits_for_content=have_all_been_ready,
        )

    def work(lifeline: Lifeline) -> None:
        run_worker(settings, listening, lifeline, serves_early=not have_all_been_ready)

    def aside(run: Callable[[Lifeline], None], lifeline: Lifeline) -> None:
        listening.close()
        run(lifeline)

    def announce() -> None:
        nonlocal have_all_been_ready
        have_all_been_ready = True
        on_ready(Address(host, port))

    supervisor.add("keeper", keep, _KEEPER_GRACE_S)
    _add_joiner(supervisor, settings, listening)
    for number in range(n_workers or settings.config.server.n_workers):
        supervisor.add(f"worker {number + 1}", work, _WORKER_GRACE_S)
    for name, run in _side_roles(settings).items():
        supervisor.add(name, partial(aside, run), _WORKER_GRACE_S, is_needed=False)
    if life is not None:
        supervisor.add("life", partial(aside, partial(life, Address(host, port))), _LIFE_GRACE_S)
    if learner is not None:
        supervisor.add("learner", partial(aside, learner), _LIFE_GRACE_S, may_end=True, is_needed=False)
    try:
        return supervisor.run(announce)
    finally:
        listening.close()


def _add_joiner(supervisor: Supervisor, settings: Settings, listening: socket.socket) -> None:
    """Add what makes samples, where the config does not say no."""
    if not settings.config.flywheel.joins:
        return
    from millrace.app.join_role import run_joiner

    def join(lifeline: Lifeline) -> None:
        listening.close()
        run_joiner(settings, lifeline)

    supervisor.add("joiner", join, _JOINER_GRACE_S, is_needed=False)


def _side_roles(settings: Settings) -> dict[str, Callable[[Lifeline], None]]:
    """Return what else the config wants to run beside keeper and workers, by name."""
    from millrace.app import near_line

    roles: dict[str, Callable[[Lifeline], None]] = {}
    if near_line.is_wanted(settings):
        roles["near-line"] = lambda lifeline: near_line.run_near_line(
            settings, should_stop=lifeline.should_stop, wait=lifeline.wait, on_ready=lifeline.say_ready
        )
    return roles


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises
    ------
    ConfigError
        If the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(
            "config key server.port",
            value=f"{host}:{port}",
            problem=f"cannot be bound ({error.strerror or error})",
            remedy="stop what uses it, or choose another port (0 takes a free one)",
        ) from error
    listening.setblocking(False)
    return listening


def _ended(pid: int) -> str | None:
    """Return how a child ended, None while it lives."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return "unknown status"
    if not found:
        return None
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
