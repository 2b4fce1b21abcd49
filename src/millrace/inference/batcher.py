"""`Batcher`: requests of many callers run together on one thread; the dynamic batcher of X's *navi*.

A request that finds nothing running runs at once, alone. While a batch runs, others gather, and go together when it
ends. Right after a batch as many as it had are likely to come again (callers who wait for answers before they ask
anew): for those the next one waits, `BatcherConfig.max_wait_ms` at most. Stale requests, whose deadline passed while
they queued, are dropped, not run; what the queue has no room for is refused at once.

Knows nothing of models: what a batch is, is its ``run``'s business.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Annotated, Generic, NamedTuple, Protocol, TypeVar

from msgspec import Meta, Struct

from millrace.base.clock import Clock, SystemClock
from millrace.base.errors import DeadlineExceeded, NotReadyError

Q = TypeVar("Q")
A = TypeVar("A")

logger = logging.getLogger(__name__)


class BatcherConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests are put together."""

    max_batch: Annotated[int, Meta(ge=1, le=4096, description="Requests that run together at most")] = 32
    max_wait_ms: Annotated[
        float, Meta(ge=0, le=1_000, description="How long a request may wait for others to join it")
    ] = 2.0
    max_queue: Annotated[int, Meta(ge=1, le=1_000_000, description="Requests that may wait; more are refused")] = 256


class BatchObserver(Protocol):
    """Hears what a batcher does, for metrics; called in its thread, and ``refused`` in the caller's."""

    def ran(self, queued_s: Sequence[float], took_s: float) -> None:
        """Take a batch that ran: how long each of its requests had queued, and how long the run took, in seconds."""

    def dropped(self, n: int) -> None:
        """Take the number of requests that were stale."""

    def refused(self) -> None:
        """Take a request for which the queue had no room."""


class NobodyHears:
    """An observer that drops what it hears."""

    def ran(self, queued_s: Sequence[float], took_s: float) -> None:
        """Do nothing."""

    def dropped(self, n: int) -> None:
        """Do nothing."""

    def refused(self) -> None:
        """Do nothing."""


class _Waiting(NamedTuple, Generic[Q, A]):
    request: Q
    queued_s: float
    deadline_s: float
    future: Future[A]


class Batcher(Generic[Q, A]):
    """Runs requests in batches, one batch at a time.

    Parameters
    ----------
    run
        Answers a batch, in order. If it fails for several requests, each is run again alone, so that a bad one fails
        by itself.
    config
        Sizes and times.
    clock
        Its real time is what deadlines are in.
    observer
        Hears of batches, stale and refused requests.
    """

    def __init__(
        self,
        run: Callable[[list[Q]], list[A]],
        config: BatcherConfig | None = None,
        *,
        clock: Clock | None = None,
        observer: BatchObserver | None = None,
    ) -> None:
        self._run = run
        self._config = config or BatcherConfig()
        self._max_wait_s = self._config.max_wait_ms / 1000
        self._now_s = (clock or SystemClock()).monotonic_s
        self._observer = observer or NobodyHears()
        self._changed = threading.Condition()
        self._queue: deque[_Waiting[Q, A]] = deque()
        self._is_closed = False
        self._last_n = 0
        self._last_end_s = float("-inf")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to run what comes, in a thread of its own, until `close`."""
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def n_queued(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def submit(self, request: Q, deadline_s: float = float("inf")) -> Future[A]:
        """Queue a request; its future can be cancelled until it runs.

        Parameters
        ----------
        request
            As ``run`` takes it.
        deadline_s
            Real seconds, as the clock counts them, from which nobody waits for the answer any more.

        Raises
        ------
        NotReadyError
            If the queue is full, or closed.
        """
        future: Future[A] = Future()
        with self._changed:
            if self._is_closed:
                raise NotReadyError("batcher", problem="is closed", remedy="ask a server that goes on")
            is_full = len(self._queue) >= self._config.max_queue
            if not is_full:
                self._queue.append(_Waiting(request, self._now_s(), deadline_s, future))
                self._changed.notify()
        if is_full:
            self._observer.refused()
            raise NotReadyError(
                "batcher's queue",
                value=self._config.max_queue,
                problem="is full: requests come faster than they run",
                remedy="ask later or elsewhere; add servers if it lasts",
            )
        return future

    def step(self) -> int:
        """Run one batch in this thread if one should run now; return how many requests ran or were dropped."""
        with self._changed:
            if not self._queue or self.hold_s() > 0:
                return 0
            batch, stale = self._taken()
        return self._answer(batch, stale)

    def hold_s(self) -> float:
        """Return how long what waits should still wait for others, in seconds; 0 where it should run now."""
        n = len(self._queue)
        if self._is_closed or n == 0 or n >= min(self._last_n, self._config.max_batch):
            return 0.0
        queued_s = self._queue[0].queued_s
        if queued_s - self._last_end_s >= self._max_wait_s:
            return 0.0
        return max(0.0, queued_s + self._max_wait_s - self._now_s())

    def close(self) -> None:
        """Run what still waits, then end; what is submitted from now on is refused."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        while self.step():
            pass

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._is_closed:
                        return
                    self._changed.wait()
                while (hold_s := self.hold_s()) > 0:
                    self._changed.wait(hold_s)
                batch, stale = self._taken()
            self._answer(batch, stale)

    def _taken(self) -> tuple[list[_Waiting[Q, A]], list[_Waiting[Q, A]]]:
        """Take a batch off the queue, and the stale ones before its last; cancelled ones vanish."""
        batch: list[_Waiting[Q, A]] = []
        stale: list[_Waiting[Q, A]] = []
        now_s = self._now_s()
        while self._queue and len(batch) < self._config.max_batch:
            waiting = self._queue.popleft()
            if waiting.future.set_running_or_notify_cancel():
                (batch if now_s < waiting.deadline_s else stale).append(waiting)
        return batch, stale

    def _answer(self, batch: list[_Waiting[Q, A]], stale: list[_Waiting[Q, A]]) -> int:
        start_s = self._now_s()
        for waiting in stale:
            waiting.future.set_exception(_too_late(start_s - waiting.queued_s))
        if stale:
            self._tell(lambda: self._observer.dropped(len(stale)))
        if batch:
            self._run_batch(batch)
            self._last_n, self._last_end_s = len(batch), self._now_s()
            queued_s = [start_s - waiting.queued_s for waiting in batch]
            self._tell(lambda: self._observer.ran(queued_s, self._last_end_s - start_s))
        return len(batch) + len(stale)

    def _run_batch(self, batch: list[_Waiting[Q, A]]) -> None:
        try:
            answers = self._run([waiting.request for waiting in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} requests")
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.future.set_result(answer)
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            logger.debug("a batch failed; its requests are run alone", exc_info=True)
            for waiting in batch:
                if not waiting.future.done():
                    self._run_batch([waiting])

    def _tell(self, say: Callable[[], None]) -> None:
        try:
            say()
        except Exception:
            logger.exception("the observer of a batcher failed")


def _too_late(queued_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        "request in a batch's queue",
        value=f"{queued_s * 1000:.1f} ms",
        problem="queued for so long that its deadline passed; it was not run",
        remedy="give it more time, or send fewer: add servers if it lasts",
    )
