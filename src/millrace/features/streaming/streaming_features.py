"""`StreamingFeatures`: windowed counters and sequences as events arrive, by partitions of their keys.

Each partition is an `EngagementStore`, so what an event changes has one definition, and a key's events are applied in
log order. One partition alone folds every event once. Several make two lanes that both hear every event: one is
divided by post (counters, windows of posts and of their authors), one by user (histories, windows of what users do);
they cost more work in all, and pay where their threads have cores of their own. Where a partition is slower than the
log, the producer waits: it applies the events itself, or a thread's queue is bounded. Nothing is lost.

It is a `Fold`: an `Applier` drives it, a checkpoint holds it (after what waits has been applied), a replay from there
gives the same bytes. With one partition a lane it says what the store that serving folds says, bit for bit; with
several, sums over partitions (an author's counters, whose posts are in several) are exact in windows, and differ by the
rounding of float32 in decayed counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.base.actions import ActionSpace
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, Int64Array
from millrace.events.envelope import Payload
from millrace.features.streaming.config import StreamingConfig
from millrace.features.streaming.partition import Partition
from millrace.features.streaming.routing import by_post, by_user, partition_of
from millrace.stores.codes import CodeTables
from millrace.stores.decayed_rows import Float32Array
from millrace.stores.engagement_config import EngagementConfig
from millrace.stores.engagements import EngagementStore
from millrace.stores.fold import Arrays, EventBatch
from millrace.stores.histories import History

OnApplied = Callable[[int, int], None]
"""Called, by whoever applies, with (partition, number of the batch)."""


class StreamingFeatures:
    """The pipeline.

    Parameters
    ----------
    config
        What is counted, as the stores of the home have it.
    hasher, codes
        Ids to inside ids; topic names to codes, applied before this.
    actions
        The known actions.
    streaming
        Partitions and queues.
    on_applied
        Told of every batch of every partition.
    """

    name = "streaming_features"
    handles: tuple[type[Payload], ...] = EngagementStore.handles

    def __init__(
        self,
        config: EngagementConfig,
        hasher: IdHasher,
        codes: CodeTables,
        actions: ActionSpace | None = None,
        streaming: StreamingConfig | None = None,
        on_applied: OnApplied | None = None,
    ) -> None:
        streaming = streaming or StreamingConfig()
        # It holds nothing: it turns events into operations.
        self._decoder = EngagementStore(config, hasher, codes, actions)
        self._n_batches = 0
        self._lanes: tuple[tuple[list[Partition], Callable[[Int64Array, int], Iterator[Int64Array]]], ...]

        def partition(lane: str, number: int, place: int) -> Partition:
            told = None if on_applied is None else lambda batch: on_applied(place, batch)
            store = EngagementStore(config, hasher, codes, actions)
            name, has_thread = f"{lane} {number}", streaming.has_threads
            return Partition(name, store, streaming.max_batches, told, has_thread=has_thread)

        n_posts, n_users = streaming.n_post_partitions, streaming.n_user_partitions
        if n_posts == n_users == 1:
            self._posts = self._users = [partition("all", 0, 0)]
            self._lanes = ((self._posts, by_post),)
            return
        self._posts = [partition("posts", number, number) for number in range(n_posts)]
        self._users = [partition("users", number, n_posts + number) for number in range(n_users)]
        self._lanes = ((self._posts, by_post), (self._users, by_user))

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Those of posts, then those of users; or the one that is both."""
        return tuple(partition for lane, _ in self._lanes for partition in lane)

    @property
    def n_batches(self) -> int:
        """How many batches have been handed over: the number of the next one."""
        return self._n_batches

    def apply(self, batch: EventBatch) -> None:
        """Hand a batch to the partitions; waits while one is behind.

        Raises
        ------
        StoreError
            If a partition has failed.
        """
        ops = self._decoder.operations(batch)
        if not len(ops):
            return
        number, self._n_batches = self._n_batches, self._n_batches + 1
        for lane, parts in self._lanes:
            for partition, own in zip(lane, parts(ops, len(lane)), strict=True):
                partition.put(number, own)

    def tick(self, watermark_ms: int) -> None:
        """Let every partition forget what the watermark has left behind, in its place among the events."""
        for partition in self.partitions:
            partition.put_tick(watermark_ms)

    def drain(self) -> None:
        """Wait until everything has been applied.

        Raises
        ------
        StoreError
            If a partition has failed.
        """
        for partition in self.partitions:
            partition.drain()

    def arrays(self) -> Arrays:
        """Return the whole state as of the last event handed over; the arrays are the live ones."""
        self.drain()
        return {
            f"{partition.name.replace(' ', '.')}/{name}": array
            for partition in self.partitions
            for name, array in partition.store.arrays().items()
        }

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over a state written by `arrays`, of as many partitions.

        Raises
        ------
        StoreError
            If it was written by another number of partitions.
        """
        names = {partition.name.replace(" ", ".") for partition in self.partitions}
        found = {name.partition("/")[0] for name in arrays}
        if found != names:
            raise StoreError(
                "streaming features",
                value=sorted(found),
                problem=f"were checkpointed by other partitions than {sorted(names)}",
                remedy="keep their number, or fold the log anew",
            )
        self.drain()
        for partition in self.partitions:
            prefix = f"{partition.name.replace(' ', '.')}/"
            with partition.lock:
                partition.store.load(
                    {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
                )

    def post_windows(self, post_ids: Int64Array, now_ms: int) -> Float32Array:
        """Return what `Windows.read` says of posts."""
        return self._of_posts(post_ids, lambda store, ids: store.windows.read("posts", ids, now_ms))

    def post_counts(self, post_ids: Int64Array, now_ms: int) -> Float32Array:
        """Return what `Counters.post_counts` says."""
        return self._of_posts(post_ids, lambda store, ids: store.counters.post_counts(ids, now_ms))

    def author_windows(self, author_ids: Int64Array, now_ms: int) -> Float32Array:
        """Return what `Windows.read` says of authors: the sum over the partitions of their posts."""
        return self._of_authors(lambda store: store.windows.read("authors", author_ids, now_ms))

    def author_counts(self, author_ids: Int64Array, now_ms: int) -> Float32Array:
        """Return what `Counters.author_counts` says: the sum over the partitions of their posts."""
        return self._of_authors(lambda store: store.counters.author_counts(author_ids, now_ms))

    def user_windows(self, user_id: int, now_ms: int) -> Float32Array:
        """Return what `Windows.read` says of a user, shape (n_windows, n_columns)."""
        partition = self._partition_of_user(user_id)
        with partition.lock:
            found: Float32Array = partition.store.windows.read("users", np.array([user_id]), now_ms)[0]
            return found

    def history(self, user_id: int, max_actions: int | None = None) -> History:
        """Return what `Histories.history` says: the newest actions of a user."""
        partition = self._partition_of_user(user_id)
        with partition.lock:
            return partition.store.histories.history(user_id, max_actions)

    def close(self) -> None:
        """Apply what waits, and end the threads."""
        for partition in self.partitions:
            partition.close()

    def _partition_of_user(self, user_id: int) -> Partition:
        partition = self._users[int(partition_of(np.array([user_id], dtype=np.int64), len(self._users))[0])]
        partition.check()
        return partition

    def _of_posts(
        self, post_ids: Int64Array, read: Callable[[EngagementStore, Int64Array], Float32Array]
    ) -> Float32Array:
        places = partition_of(np.ascontiguousarray(post_ids, dtype=np.int64), len(self._posts))
        parts = []
        for place, partition in enumerate(self._posts):
            partition.check()
            with partition.lock:
                parts.append(read(partition.store, post_ids[places == place]))
        found = np.empty((len(post_ids), *parts[0].shape[1:]), dtype=np.float32)
        for place, part in enumerate(parts):
            found[places == place] = part
        return found

    def _of_authors(self, read: Callable[[EngagementStore], Float32Array]) -> Float32Array:
        found: Float32Array | None = None
        for partition in self._posts:
            partition.check()
            with partition.lock:
                part = read(partition.store)
            found = part if found is None else found + part
        assert found is not None
        return found
