"""`ServedWriter`, `FeaturesWriter`: append events behind the pages, in batches, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from millrace.app.metrics import Metrics
from millrace.base.errors import LogError
from millrace.events.envelope import AnyEvent
from millrace.stream.collector import Receipt

Append = Callable[[Sequence[AnyEvent]], Awaitable[Receipt]]
"""Makes events durable, off the event loop."""

logger = logging.getLogger(__name__)


class ServedWriter:
    """Collects `Served` events and appends them together, ``batch_ms`` after the first of a batch.

    When the log refuses (a full disk), events wait and are tried again; beyond ``max_waiting`` the oldest are
    lost, and counted as lost. What fails in any other way is tried once more, each event by itself, so that one
    that can never be written is lost alone. Used from one event loop.

    Parameters
    ----------
    append
        The door for trusted producers.
    metrics
        Counts written, refused and lost events, and batches that are tried again.
    batch_ms
        How long a batch is collected.
    max_waiting, retry_s
        How many events wait for a log that refuses, and how long before it is tried again.
    """

    def __init__(
        self,
        append: Append,
        metrics: Metrics,
        batch_ms: int = 20,
        *,
        max_waiting: int = 20_000,
        retry_s: float = 0.5,
    ) -> None:
        self._append = append
        self._metrics = metrics
        self._count_events = metrics.served_events
        self._batch_s = batch_ms / 1000
        self._max_waiting = max_waiting
        self._retry_s = retry_s
        self._waiting: list[AnyEvent] = []
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def log(self, event: AnyEvent) -> None:
        """Take an event; it is appended soon. Never blocks, never raises."""
        self._waiting.append(event)
        self._bound()
        self._something.set()

    async def start(self) -> None:
        """Begin to append."""
        self._task = asyncio.create_task(self._run(), name="served-writer")

    async def stop(self) -> None:
        """Append what is waiting, once, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._waiting and not await self._flush():
            self._lose(len(self._waiting))
            self._waiting.clear()

    async def _run(self) -> None:
        while True:
            await self._something.wait()
            await asyncio.sleep(self._batch_s)
            self._something.clear()
            if not await self._flush():
                await asyncio.sleep(self._retry_s)
                self._something.set()

    async def _flush(self) -> bool:
        """Append what is waiting; return False if any of it has to wait longer."""
        batch, self._waiting = self._waiting, []
        # Shielded: once handed to the log, a batch is awaited even when the server stops, or it would be
        # appended by the thread and once more by `stop`. (That would be harmless, and count twice.)
        writing = asyncio.ensure_future(self._write(batch))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    async def _write(self, batch: Sequence[AnyEvent]) -> bool:
        try:
            receipt = await self._append(batch)
        except (LogError, OSError) as error:
            logger.warning("served events wait: %s", error)
            self._wait_again(batch)
            return False
        except Exception:
            logger.exception("served events could not be written together; each is tried by itself")
            self._count_events("retried", 1)
        else:
            self._count(receipt)
            return True
        for number, event in enumerate(batch):
            try:
                self._count(await self._append([event]))
            except (LogError, OSError):
                self._wait_again(batch[number:])
                return False
            except Exception:
                logger.exception("served event %s cannot be written and is lost", event.event_id)
                self._lose(1)
        return True

    def _wait_again(self, events: Sequence[AnyEvent]) -> None:
        self._count_events("retried", 1)
        self._waiting[:0] = events
        self._bound()

    def _bound(self) -> None:
        n_lost = len(self._waiting) - self._max_waiting
        if n_lost > 0:
            del self._waiting[:n_lost]
            self._lose(n_lost)

    def _count(self, receipt: Receipt) -> None:
        for result in receipt:
            if result.status == "refused":
                logger.error("served event %s was refused: %s", result.event_id, result.error)
        self._count_events("written", len(receipt) - receipt.n_refused)
        self._count_events("refused", receipt.n_refused)

    def _lose(self, n: int) -> None:
        self._count_events("lost", n)


class FeaturesWriter(ServedWriter):
    """The same for what models saw (`FeaturesLogged`, `CandidatesLogged`): large events that nobody waits for.

    Collected for longer, and never in one append with other events: a process that passes over their topic then reads
    hardly anything of them. A worker that is killed loses those of its last moment; the pages themselves are logged.
    """

    def __init__(self, append: Append, metrics: Metrics, batch_ms: int = 500, *, max_waiting: int = 2_000) -> None:
        super().__init__(append, metrics, batch_ms, max_waiting=max_waiting)
        self._count_events = metrics.features_events

    def log(self, event: AnyEvent) -> None:
        """Take an event; it is appended soon. Never blocks, never raises."""
        self._metrics.features_bytes(len(event.payload.arrays))
        super().log(event)
