"""`DoorThread`: the `Collector` for an event loop. Appends wait for the disk in a thread; pages do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from millrace.base.errors import LogError
from millrace.events.envelope import AnyEvent
from millrace.stream.checks import Admit
from millrace.stream.collector import Collector, Receipt

ResultT = TypeVar("ResultT")

MAX_WAITING: Final = 256
MAX_WAITING_BYTES: Final = 128 << 20


class DoorThread:
    """One thread in which all appends of a worker happen, one after the other. Used from one event loop.

    Parameters
    ----------
    collector
        The door.
    source
        What client events without a ``source`` are said to come from.
    max_waiting, max_waiting_bytes
        How many clients' calls, and how many bytes of events, may wait for the disk; what comes on top is refused
        at once. A single call of any size is taken while no other waits. Our own events are not counted: who
        appends them keeps them bounded.
    """

    def __init__(
        self,
        collector: Collector,
        source: str = "http",
        *,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._collector = collector
        self._source = source
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._n_waiting = 0
        self._n_waiting_bytes = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="door")

    async def submit_json(
        self,
        lines: Sequence[bytes],
        admit: Admit | None = None,
        *,
        client: str = "",
        sent_ms: int | None = None,
        spend: Callable[[], None] = lambda: None,
    ) -> Receipt:
        """Take in clients' events; see `Collector.submit_json`. ``spend`` raises, in the thread, if it is too many.

        Raises
        ------
        LogError
            Also if too much is waiting already; nothing was taken in.
        """

        def take() -> Receipt:
            spend()
            return self._collector.submit_json(lines, self._source, admit, client=client, sent_ms=sent_ms)

        return await self._take_turn(take, sum(map(len, lines)))

    async def spend(self, spend: Callable[[], None], lines: Sequence[bytes]) -> None:
        """Spend for clients' events alone, before work that they cause; raises like `submit_json`."""
        await self._take_turn(spend, sum(map(len, lines)))

    async def _take_turn(self, call: Callable[[], ResultT], n_bytes: int) -> ResultT:
        self._check_room(n_bytes)
        self._n_waiting += 1
        self._n_waiting_bytes += n_bytes
        loop = asyncio.get_running_loop()
        taking = self._thread.submit(call)

        def left() -> None:
            self._n_waiting -= 1
            self._n_waiting_bytes -= n_bytes

        def on_done(_: Future[ResultT]) -> None:
            # Not when the client is told or gives up: its bytes are held until the thread is done with them.
            if not loop.is_closed():
                loop.call_soon_threadsafe(left)

        taking.add_done_callback(on_done)
        return await asyncio.wrap_future(taking)

    async def append(self, events: Sequence[AnyEvent]) -> Receipt:
        """Take in events of our own."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._collector.submit, events)

    def close(self) -> None:
        """Wait for what is being appended and end the thread."""
        self._thread.shutdown(wait=True)

    def _check_room(self, n_bytes: int) -> None:
        is_full = self._n_waiting >= self._max_waiting or self._n_waiting_bytes + n_bytes > self._max_waiting_bytes
        if self._n_waiting and is_full:
            raise LogError(
                "events",
                value=n_bytes,
                problem=f"{self._n_waiting} requests of {self._n_waiting_bytes} bytes wait for the disk already",
                remedy="nothing was taken in; send them again in a moment",
            )
