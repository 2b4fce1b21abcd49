"""`Partition`: one share of the keys, applied by its caller or by a thread that is fed through a bounded queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, Queue
from typing import Final, NamedTuple

import numpy as np

from millrace.base.errors import StoreError
from millrace.base.ids import Int64Array
from millrace.stores.engagements import EngagementStore

OnApplied = Callable[[int], None]
"""Called, by whoever applies, with the number of a batch that has been applied."""

_JOIN_S: Final = 30.0
_MAX_OPERATIONS: Final = 8_192
"""So many operations are folded at once at most, however many batches wait."""


class _Item(NamedTuple):
    """A batch's operations, or (None) a tick of the watermark."""

    number: int
    ops: Int64Array | None
    watermark_ms: int


class Partition:
    """Applies operations in the order in which they were put.

    With a thread: kernels let go of the interpreter while they run, but take it back after each, and then wait for
    whoever decodes (up to 5 ms, Python's switch interval). So the thread takes all that waits at once.

    Parameters
    ----------
    name
        For people.
    store
        Its state: the one definition of what an event changes. Read it only while holding `lock`.
    max_batches
        Batches that may wait for the thread; whoever puts one more waits, too.
    on_applied
        Told of every batch.
    has_thread
        Whether a thread applies; else whoever puts does so.

    Attributes
    ----------
    lock
        Held while operations are applied.
    max_waiting
        The most batches that ever waited.
    """

    def __init__(
        self,
        name: str,
        store: EngagementStore,
        max_batches: int,
        on_applied: OnApplied | None = None,
        *,
        has_thread: bool = True,
    ) -> None:
        self.name = name
        self.store = store
        self.lock = threading.Lock()
        self.max_waiting = 0
        self._queue: Queue[_Item | None] = Queue(max_batches)
        self._on_applied = on_applied
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        if has_thread:
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def put(self, number: int, ops: Int64Array) -> None:
        """Hand over operations; waits while the queue is full, without a thread until they are applied.

        Raises
        ------
        StoreError
            If the partition has failed: its state is half-changed.
        """
        self._put(_Item(number, ops, 0))

    def put_tick(self, watermark_ms: int) -> None:
        """Hand over a tick of the log's watermark, in its place among the operations; raises as `put`."""
        self._put(_Item(-1, None, watermark_ms))

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
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_JOIN_S)

    def _put(self, item: _Item) -> None:
        self.check()
        if self._thread is None:
            self._apply([item])
            self.check()
            return
        self._queue.put(item)
        self.max_waiting = max(self.max_waiting, self._queue.qsize())

    def _run(self) -> None:
        ends = False
        while not ends:
            items, ends = self._waiting()
            self._apply(items)
            for _ in range(len(items) + ends):
                self._queue.task_done()

    def _waiting(self) -> tuple[list[_Item], bool]:
        """Return what waits, one item at least, and whether the end is among it."""
        items: list[_Item] = []
        n_ops = 0
        item = self._queue.get()
        while item is not None:
            items.append(item)
            n_ops += 0 if item.ops is None else len(item.ops)
            if n_ops >= _MAX_OPERATIONS:
                return items, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return items, False
        return items, True

    def _apply(self, items: list[_Item]) -> None:
        # After a failure batches are let through unapplied: nobody may wait for ever.
        if self._failure is not None:
            return
        try:
            with self.lock:
                start = 0
                for place, item in enumerate(items):
                    if item.ops is None:
                        self._fold(items[start:place])
                        self.store.tick(item.watermark_ms)
                        start = place + 1
                self._fold(items[start:])
            if self._on_applied is not None:
                for item in items:
                    if item.ops is not None:
                        self._on_applied(item.number)
        except BaseException as error:  # noqa: BLE001 - told to whoever puts or reads next
            self._failure = error

    def _fold(self, items: list[_Item]) -> None:
        ops = [item.ops for item in items if item.ops is not None]
        if ops:
            self.store.apply_operations(ops[0] if len(ops) == 1 else np.concatenate(ops))
