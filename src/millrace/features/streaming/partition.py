"""`Partition`: one worker's share of the keys, fed through a bounded queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Queue
from typing import Final

from millrace.base.errors import StoreError
from millrace.base.ids import Int64Array
from millrace.stores.engagements import EngagementStore

OnApplied = Callable[[int], None]
"""Called by a partition's thread with the number of a batch that it has applied."""

_JOIN_S: Final = 30.0


class Partition:
    """Applies operations in the order in which they were put, in a thread of its own.

    Kernels let go of the interpreter while they run, so partitions work beside each other and beside whoever decodes.

    Parameters
    ----------
    name
        For people.
    store
        Its state: the one definition of what an event changes. Read it only while holding `lock`.
    max_batches
        Batches that may wait; whoever puts one more waits, too.
    on_applied
        Told of every batch.

    Attributes
    ----------
    lock
        Held while operations are applied.
    max_waiting
        The most batches that ever waited.
    """

    def __init__(
        self, name: str, store: EngagementStore, max_batches: int, on_applied: OnApplied | None = None
    ) -> None:
        self.name = name
        self.store = store
        self.lock = threading.Lock()
        self.max_waiting = 0
        self._queue: Queue[tuple[int, Int64Array | None, int] | None] = Queue(max_batches)
        self._on_applied = on_applied
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, number: int, ops: Int64Array) -> None:
        """Hand over operations; waits while the queue is full.

        Raises
        ------
        StoreError
            If the partition has failed: its state is half-changed.
        """
        self._put((number, ops, 0))

    def put_tick(self, watermark_ms: int) -> None:
        """Hand over a tick of the log's watermark, in its place among the operations; raises as `put`."""
        self._put((-1, None, watermark_ms))

    def drain(self) -> None:
        """Wait until everything that was put has been applied; raises as `put`."""
        self._queue.join()
        self.check()

    def check(self) -> None:
        """Raise what `put` raises."""
        if self._failure is not None:
            raise StoreError(
                f"feature partition {self.name}",
                problem=f"failed and its state cannot be used ({type(self._failure).__name__}: {self._failure})",
                remedy="begin again from the newest checkpoint; report it",
            ) from self._failure

    def close(self) -> None:
        """Apply what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join(_JOIN_S)

    def _put(self, item: tuple[int, Int64Array | None, int]) -> None:
        self.check()
        self._queue.put(item)
        self.max_waiting = max(self.max_waiting, self._queue.qsize())

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                # After a failure batches are let through unapplied: nobody may wait for ever.
                if self._failure is None:
                    self._apply(*item)
            except BaseException as error:  # noqa: BLE001 - told to whoever puts or reads next
                self._failure = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _apply(self, number: int, ops: Int64Array | None, watermark_ms: int) -> None:
        with self.lock:
            if ops is None:
                self.store.tick(watermark_ms)
            else:
                self.store.apply_operations(ops)
        if ops is not None and self._on_applied is not None:
            self._on_applied(number)
