"""`MultiLevelCache`: process memory, then a shared key-value store, then whoever knows (the store itself).

A key is looked for level by level, and what is found lower down is put into the levels above it. What the store does
not have is remembered too (a negative entry, with a shorter life); what failed is not. Of all who miss one key at once,
one asks for it and the others wait for the answer (*single flight*, as memcached's leases and Go's ``singleflight``),
be they threads or tasks of an event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import msgspec

from millrace.base.errors import StoreError
from millrace.stores.memory_level import ABSENT, Absent, MemoryLevel
from millrace.stores.shared_level import SharedLevel

ValueT = TypeVar("ValueT")
Load = Callable[[Sequence[bytes]], Sequence[ValueT | None]]
"""Asks the store: keys to values in their order, None where it has none."""
Accept = Callable[[ValueT], bool]
"""Whether a value that was found may be used by this caller."""

_N_THREADS: Final = 4


class CacheCounts(msgspec.Struct, frozen=True):
    """What a cache has done so far; each key of a call counts once.

    Attributes
    ----------
    n_memory, n_shared, n_store
        Keys answered by process memory, by the shared level, and by the store.
    n_waited
        Keys answered by what another caller was just asking for.
    n_absent
        Of all these, those under which there is nothing.
    n_loads
        Calls of the store.
    n_failed_loads
        Of these, those that failed.
    n_shared_failures
        Calls of the shared level that failed: it is left alone for a moment, and the store is asked.
    n_evicted
        Values that left process memory for want of room.
    n_bytes
        What process memory holds now, in bytes.
    """

    n_memory: int = 0
    n_shared: int = 0
    n_store: int = 0
    n_waited: int = 0
    n_absent: int = 0
    n_loads: int = 0
    n_failed_loads: int = 0
    n_shared_failures: int = 0
    n_evicted: int = 0
    n_bytes: int = 0


@dataclass(eq=False, slots=True)
class _Flight(Generic[ValueT]):
    """One key that somebody is asking for; revoked where it was removed meanwhile: then nothing is kept."""

    answer: Future[ValueT | Absent] = field(default_factory=Future)
    is_revoked: bool = False


@dataclass(slots=True)
class _Asked(Generic[ValueT]):
    """One call, while it looks: what it has, what it must ask for itself, and for what it waits."""

    found: dict[bytes, ValueT | Absent] = field(default_factory=dict)
    own: dict[bytes, _Flight[ValueT]] = field(default_factory=dict)
    others: dict[bytes, _Flight[ValueT]] = field(default_factory=dict)


class MultiLevelCache(Generic[ValueT]):
    """See the module. Safe to use from several threads and event loops.

    Parameters
    ----------
    memory
        The first level.
    shared
        The second level; None: there is none. Closed with the cache.
    size
        What a value takes, in bytes.
    ttl_s
        A value is at most so old, whichever levels it went through, beside the difference of machines' clocks.
    negative_ttl_s
        The same for "there is nothing".
    shared_ttl_s
        Bounds both in the shared level, where that is shorter; None: it is not.
    """

    def __init__(
        self,
        memory: MemoryLevel[ValueT],
        shared: SharedLevel[ValueT] | None = None,
        *,
        size: Callable[[ValueT], int],
        ttl_s: float,
        negative_ttl_s: float,
        shared_ttl_s: float | None = None,
    ) -> None:
        self._memory = memory
        self._shared = shared
        self._size = size
        self._ttl_ms = max(1, round(ttl_s * 1_000))
        self._negative_ttl_ms = max(1, round(negative_ttl_s * 1_000))
        self._shared_ttl_ms = self._ttl_ms if shared_ttl_s is None else max(1, round(shared_ttl_s * 1_000))
        self._flights: dict[bytes, _Flight[ValueT]] = {}
        self._lock = threading.Lock()
        self._counts: dict[str, int] = dict.fromkeys(CacheCounts.__struct_fields__, 0)
        self._counting = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def counts(self) -> CacheCounts:
        """What it has done so far."""
        shared = 0 if self._shared is None else self._shared.n_failures
        with self._counting:
            counts = CacheCounts(**self._counts)
        return msgspec.structs.replace(
            counts, n_shared_failures=shared, n_evicted=self._memory.n_evicted, n_bytes=self._memory.n_bytes
        )

    def get_many(
        self, keys: Sequence[bytes], load: Load[ValueT], accept: Accept[ValueT] | None = None
    ) -> list[ValueT | None]:
        """Return values in the keys' order, None where there is nothing.

        Parameters
        ----------
        keys
            May name one twice.
        load
            Asks the store for what no level has. What it raises is raised to all who wait for it, and kept by nobody.
        accept
            Refuses values that are of no use to this caller: it counts as if they were not there.
        """
        asked = self._look(keys, accept)
        if asked.own:
            asked.found.update(self._lead(asked.own, load, accept))
        for key, flight in asked.others.items():
            asked.found[key] = flight.answer.result()
        self._ask_again(asked, load, accept)
        return self._answers(keys, asked)

    async def get_many_async(
        self, keys: Sequence[bytes], load: Load[ValueT], accept: Accept[ValueT] | None = None
    ) -> list[ValueT | None]:
        """Return the same without holding up the event loop: ``load`` and the shared level are asked in a thread.

        A caller that is cancelled takes nothing from others: the asking goes on, and its answer is kept.
        """
        asked = self._look(keys, accept)
        if asked.own:
            loop = asyncio.get_running_loop()
            lead = loop.run_in_executor(self._pool(), self._lead, asked.own, load, accept)
            asked.found.update(await asyncio.shield(lead))
        for key, flight in asked.others.items():
            asked.found[key] = await asyncio.wrap_future(flight.answer)
        if asked.others and accept is not None:
            await asyncio.to_thread(self._ask_again, asked, load, accept)
        return self._answers(keys, asked)

    def in_memory(self, keys: Sequence[bytes]) -> list[ValueT | Absent | None]:
        """Return what process memory holds, `ABSENT` for negative entries, without asking further or counting."""
        return self._memory.get_many(keys)

    def put_in_memory(self, key: bytes, value: ValueT) -> None:
        """Hold a value that is known to be better than what process memory holds; other levels stay as they are."""
        self._memory.put_many([(key, value, self._size(value), self._ttl_ms / 1_000)])

    def remove_many(self, keys: Sequence[bytes]) -> None:
        """Forget these keys in all levels, also what is just being loaded. Call it after the store has changed.

        Other processes' memory keeps what it has until its life is over.

        Raises
        ------
        StoreError
            If the shared level does not answer: what it holds is then served until its life is over.
        """
        with self._lock:
            for key in keys:
                if (flight := self._flights.pop(key, None)) is not None:
                    flight.is_revoked = True
            self._memory.remove_many(keys)
        if self._shared is not None:
            self._shared.remove_many(keys)

    def clear_memory(self) -> None:
        """Forget all that is in process memory, also what is just being loaded."""
        with self._lock:
            for flight in self._flights.values():
                flight.is_revoked = True
            self._flights.clear()
            self._memory.clear()

    def close(self) -> None:
        """Close the shared level, and end the threads."""
        if self._threads is not None:
            self._threads.shutdown()
        if self._shared is not None:
            self._shared.close()

    def _look(self, keys: Sequence[bytes], accept: Accept[ValueT] | None) -> _Asked[ValueT]:
        """Ask process memory, and join or begin a flight for each key that it does not have."""
        asked: _Asked[ValueT] = _Asked()
        missing = self._of_memory(dict.fromkeys(keys), asked, accept)
        if missing:
            with self._lock:
                # Once more: what was loaded meanwhile has no flight any more.
                for key in self._of_memory(missing, asked, accept):
                    flight = self._flights.get(key)
                    if flight is not None:
                        asked.others[key] = flight
                        continue
                    flight = self._flights[key] = asked.own[key] = _Flight()
                    flight.answer.set_running_or_notify_cancel()  # a waiter that is cancelled cannot cancel it
        self._count(n_memory=len(asked.found), n_waited=len(asked.others))
        return asked

    def _of_memory(self, keys: Iterable[bytes], asked: _Asked[ValueT], accept: Accept[ValueT] | None) -> list[bytes]:
        keys = list(keys)
        missing = []
        for key, value in zip(keys, self._memory.get_many(keys), strict=True):
            if value is None or not _is_accepted(value, accept):
                missing.append(key)
            else:
                asked.found[key] = value
        return missing

    def _ask_again(self, asked: _Asked[ValueT], load: Load[ValueT], accept: Accept[ValueT] | None) -> None:
        """Ask once more, and alone, for what was loaded for others and is of no use to this caller."""
        refused = [key for key in asked.others if not _is_accepted(asked.found[key], accept)]
        if refused:
            asked.found.update(zip(refused, self._load(refused, load), strict=True))

    def _answers(self, keys: Sequence[bytes], asked: _Asked[ValueT]) -> list[ValueT | None]:
        answers = [None if isinstance(value := asked.found[key], Absent) else value for key in keys]
        if (n_absent := answers.count(None)) > 0:
            self._count(n_absent=n_absent)
        return answers

    def _lead(
        self, own: dict[bytes, _Flight[ValueT]], load: Load[ValueT], accept: Accept[ValueT] | None
    ) -> dict[bytes, ValueT | Absent]:
        """Ask the shared level and the store for these keys, fill the levels, and answer all who wait."""
        found: dict[bytes, ValueT | Absent] = {}
        try:
            before = self._read_shared(own, found, accept)
            missing = [key for key in own if key not in found]
            if missing:
                loaded = dict(zip(missing, self._load(missing, load), strict=True))
                found.update(loaded)
                self._fill(own, loaded, before)
        except BaseException as error:
            self._land(own)
            for flight in own.values():
                flight.answer.set_exception(error)
            raise
        self._land(own)
        for key, flight in own.items():
            flight.answer.set_result(found[key])
        return found

    def _land(self, own: Mapping[bytes, _Flight[ValueT]]) -> None:
        with self._lock:
            for key, flight in own.items():
                if self._flights.get(key) is flight:
                    del self._flights[key]

    def _load(self, keys: list[bytes], load: Load[ValueT]) -> list[ValueT | Absent]:
        self._count(n_loads=1)
        try:
            loaded = load(keys)
        except BaseException:
            self._count(n_failed_loads=1)
            raise
        if len(loaded) != len(keys):
            raise StoreError(
                "cache load", value=len(loaded), problem=f"values for {len(keys)} keys", remedy="give one for each key"
            )
        self._count(n_store=len(keys))
        return [ABSENT if value is None else value for value in loaded]

    def _read_shared(
        self,
        own: Mapping[bytes, _Flight[ValueT]],
        found: dict[bytes, ValueT | Absent],
        accept: Accept[ValueT] | None,
    ) -> dict[bytes, bytes | None] | None:
        """Take what the shared level has; return what stands there for the other keys, None if it did not answer."""
        held = None if self._shared is None else self._shared.get_many(list(own))
        if held is None:
            return None
        before: dict[bytes, bytes | None] = {}
        for (key, flight), there in zip(own.items(), held, strict=True):
            if there.value is None or there.left_s <= 0 or not _is_accepted(there.value, accept):
                before[key] = there.packed
            else:
                found[key] = there.value
                self._remember(key, flight, there.value, there.n_bytes, there.left_s)
        self._count(n_shared=len(found))
        return before

    def _fill(
        self,
        own: Mapping[bytes, _Flight[ValueT]],
        loaded: Mapping[bytes, ValueT | Absent],
        before: Mapping[bytes, bytes | None] | None,
    ) -> None:
        """Put what the store gave into the levels above it, unless it was removed meanwhile."""
        for is_negative, ttl_ms in ((False, self._ttl_ms), (True, self._negative_ttl_ms)):
            some = {key: value for key, value in loaded.items() if isinstance(value, Absent) is is_negative}
            for key, value in some.items():
                n_bytes = 0 if isinstance(value, Absent) else self._size(value)
                self._remember(key, own[key], value, n_bytes, ttl_ms / 1_000)
            if self._shared is not None and before is not None:
                self._shared.fill(some, before, min(ttl_ms, self._shared_ttl_ms))

    def _remember(
        self, key: bytes, flight: _Flight[ValueT], value: ValueT | Absent, n_bytes: int, life_s: float
    ) -> None:
        with self._lock:  # a removal comes before this, and is seen, or after it, and removes this
            if not flight.is_revoked:
                self._memory.put_many([(key, value, n_bytes, life_s)])

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, n in more.items():
                self._counts[name] += n

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="cache")
            return self._threads


def _is_accepted(value: ValueT | Absent, accept: Accept[ValueT] | None) -> bool:
    return accept is None or isinstance(value, Absent) or accept(value)
