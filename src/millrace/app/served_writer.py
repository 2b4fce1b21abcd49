"""`ServedWriter`: appends `Served` events behind the pages, in batches, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from millrace.app.metrics import Metrics
from millrace.base.errors import LogError
from millrace.events.envelope import AnyEvent

Append = Callable[[Sequence[AnyEvent]], Awaitable[None]]
"""Makes events durable, off the event loop."""


class ServedWriter:
    """Collects `Served` events and appends them together, ``batch_ms`` after the first of a batch.

    When the log refuses (a full disk), events wait and are tried again; beyond ``max_waiting`` the oldest are
    lost, and counted as lost. Used from one event loop.

    Parameters
    ----------
    append
        The door for trusted producers.
    metrics
        Counts written and lost events.
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
        self._batch_s = batch_ms / 1000
        self._max_waiting = max_waiting
        self._retry_s = retry_s
        self._waiting: list[AnyEvent] = []
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def log(self, event: AnyEvent) -> None:
        """Take an event; it is appended soon. Never blocks, never raises."""
        self._waiting.append(event)
        n_lost = len(self._waiting) - self._max_waiting
        if n_lost > 0:
            del self._waiting[:n_lost]
            self._metrics.served_events("lost", n_lost)
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
            self._metrics.served_events("lost", len(self._waiting))
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
        batch, self._waiting = self._waiting, []
        # Shielded: once handed to the log, a batch is awaited even when the server stops, or it would be
        # appended by the thread and once more by `stop`.
        appending = asyncio.ensure_future(self._append(batch))
        try:
            await asyncio.shield(appending)
        except asyncio.CancelledError:
            if await _failed(appending):
                self._waiting[:0] = batch
            raise
        except LogError:
            self._waiting[:0] = batch
            return False
        self._metrics.served_events("written", len(batch))
        return True


async def _failed(appending: asyncio.Future[None]) -> bool:
    try:
        await appending
    except LogError:
        return True
    return False
