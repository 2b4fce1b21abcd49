"""`DoorThread`: the `Collector` for an event loop. Appends wait for the disk in a thread; pages do not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from millrace.events.envelope import AnyEvent
from millrace.stream.collector import Collector, Receipt


class DoorThread:
    """One thread in which all appends of a worker happen, one after the other.

    Parameters
    ----------
    collector
        The door.
    source
        What client events without a ``source`` are said to come from.
    """

    def __init__(self, collector: Collector, source: str = "http") -> None:
        self._collector = collector
        self._source = source
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="door")

    async def submit_json(self, lines: Sequence[bytes]) -> Receipt:
        """Take in clients' events; see `Collector.submit_json`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._collector.submit_json, lines, self._source)

    async def append(self, events: Sequence[AnyEvent]) -> None:
        """Take in events of our own."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._collector.submit, events)

    def close(self) -> None:
        """Wait for what is being appended and end the thread."""
        self._thread.shutdown(wait=True)
