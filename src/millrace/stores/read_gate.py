"""`ReadGate`: requests read while nothing folds, and folding happens while nothing reads.

All parties are tasks of one event loop. Readers share the gate; the writer waits for those inside, and readers
that come while it waits stay behind it, so that folding is never starved by a stream of requests. Each time the
writer leaves, every reader that waited enters before the writer may come back, so that requests are not starved
by a stream of events either.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class ReadGate:
    """A shared/exclusive lock for one event loop, writer preferred, with turns. Not thread-safe."""

    def __init__(self) -> None:
        self._n_readers = 0
        self._is_writer_inside = False
        self._waiting_readers: deque[asyncio.Future[None]] = deque()
        self._waiting_writers: deque[asyncio.Future[None]] = deque()

    @property
    def n_readers(self) -> int:
        """How many readers are inside."""
        return self._n_readers

    @property
    def is_wanted(self) -> bool:
        """Whether a writer is inside or waits: readers that come now queue."""
        return self._is_writer_inside or bool(self._waiting_writers)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """Hold the gate together with other readers."""
        if self.is_wanted:
            await self._queue(self._waiting_readers)
        else:
            self._n_readers += 1
        try:
            yield
        finally:
            self._n_readers -= 1
            self._wake()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[None]:
        """Hold the gate alone."""
        if self._is_writer_inside or self._n_readers or self._waiting_writers or self._waiting_readers:
            await self._queue(self._waiting_writers)
        else:
            self._is_writer_inside = True
        try:
            yield
        finally:
            self._is_writer_inside = False
            self._admit_readers()
            self._wake()

    async def _queue(self, queue: deque[asyncio.Future[None]]) -> None:
        """Wait until somebody who leaves has counted us as inside."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                with suppress(ValueError):
                    queue.remove(future)
            elif queue is self._waiting_readers:  # let in and cancelled in the same turn of the loop
                self._n_readers -= 1
            else:
                self._is_writer_inside = False
                self._admit_readers()
            self._wake()
            raise

    def _admit_readers(self) -> None:
        while (future := _next_live(self._waiting_readers)) is not None:
            self._n_readers += 1
            future.set_result(None)

    def _wake(self) -> None:
        if self._is_writer_inside or self._n_readers:
            # Readers that queue behind a writer whose task was cancelled have nothing left to wait for.
            if not self._is_writer_inside and all(f.done() for f in self._waiting_writers):
                self._admit_readers()
            return
        future = _next_live(self._waiting_writers)
        if future is not None:
            self._is_writer_inside = True
            future.set_result(None)
        else:
            self._admit_readers()


def _next_live(queue: deque[asyncio.Future[None]]) -> asyncio.Future[None] | None:
    """Return and remove the first waiting future that has not been cancelled meanwhile."""
    while queue:
        future = queue.popleft()
        if not future.done():
            return future
    return None
