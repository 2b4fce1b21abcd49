from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import StoreError
from millrace.stores.cache import CacheCounts, MultiLevelCache
from millrace.stores.key_value import Change, MemoryKeyValue
from millrace.stores.memory_level import ENTRY_BYTES, MemoryLevel
from millrace.stores.shared_level import LEASE_MS, SharedLevel

TTL_S, NEGATIVE_TTL_S = 100.0, 10.0


class Time:
    """One moment for both clocks: the machine's seconds, and the same in milliseconds."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def now_ms(self) -> int:
        return round(self.s * 1_000)

    def monotonic_s(self) -> float:
        return self.s


class Store:
    """What is asked last: remembers the questions."""

    def __init__(self, **held: str) -> None:
        self.held = dict(held)
        self.asked: list[list[str]] = []
        self.problem: Exception | None = None

    def load(self, keys: Sequence[bytes]) -> list[str | None]:
        self.asked.append([key.decode() for key in keys])
        if self.problem is not None:
            raise self.problem
        return [self.held.get(key.decode()) for key in keys]


class BrokenKeyValue(MemoryKeyValue):
    """A server that can be away."""

    is_away = False
    n_calls = 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.check()
        return super().get_many(keys)

    def set_many(self, values: Mapping[bytes, bytes], *, ttl_ms: int | None = None) -> None:
        self.check()
        super().set_many(values, ttl_ms=ttl_ms)

    def compare_and_set(self, changes: Sequence[Change], *, ttl_ms: int | None = None) -> list[bool]:
        self.check()
        return super().compare_and_set(changes, ttl_ms=ttl_ms)

    def check(self) -> None:
        self.n_calls += 1
        if self.is_away:
            raise StoreError("server", problem="is away", remedy="wait")


Cache = MultiLevelCache[str]


def a_cache(time: Time, shared: MemoryKeyValue | None = None, max_bytes: int = 100_000) -> Cache:
    level = None if shared is None else SharedLevel(shared, str.encode, bytes.decode, time, b"c:")
    memory = MemoryLevel[str](max_bytes, time, np.random.default_rng(1))
    return MultiLevelCache(memory, level, size=len, ttl_s=TTL_S, negative_ttl_s=NEGATIVE_TTL_S)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def shared(time: Time) -> BrokenKeyValue:
    return BrokenKeyValue(time)


def get(cache: Cache, store: Store, *keys: str) -> list[str | None]:
    return cache.get_many([key.encode() for key in keys], store.load)


def counted(cache: Cache) -> dict[str, int]:
    counts = cache.counts
    names = [name for name in CacheCounts.__struct_fields__ if name != "n_bytes"]
    return {name: n for name in names if (n := getattr(counts, name))}


def test_each_level_answers_what_it_has_and_fills_those_above(time: Time, shared: BrokenKeyValue) -> None:
    store = Store(a="A", b="B")
    one, other = a_cache(time, shared), a_cache(time, shared)
    assert get(one, store, "b", "x", "a", "b") == ["B", None, "A", "B"]
    assert store.asked == [["b", "x", "a"]]
    assert counted(one) == {"n_store": 3, "n_loads": 1, "n_absent": 1}
    assert get(other, store, "a", "x", "y") == ["A", None, None]
    assert store.asked[1:] == [["y"]]
    assert counted(other) == {"n_shared": 2, "n_store": 1, "n_loads": 1, "n_absent": 2}
    assert get(other, store, "a", "x") == ["A", None]
    assert counted(other) == {"n_memory": 2, "n_shared": 2, "n_store": 1, "n_loads": 1, "n_absent": 3}
    assert (len(store.asked), shared.n_calls) == (2, 5)  # what is and what is not are filled by two calls


def test_without_a_shared_level_memory_stands_alone(time: Time) -> None:
    store = Store(a="A")
    cache = a_cache(time)
    assert [get(cache, store, "a", "x") for _ in range(3)] == [["A", None]] * 3
    assert store.asked == [["a", "x"]]
    assert get(cache, store) == []


def test_nothing_is_older_than_its_life_whichever_levels_it_went_through(time: Time, shared: BrokenKeyValue) -> None:
    store = Store(a="old")
    one, other = a_cache(time, shared), a_cache(time, shared)
    get(one, store, "a")
    store.held["a"] = "new"
    time.s += TTL_S - 1
    assert get(other, store, "a") == ["old"]  # from the shared level, into memory
    time.s += 1
    assert get(other, store, "a") == ["new"]
    assert get(one, store, "a") == ["new"]
    assert len(store.asked) == 2


def test_that_there_is_nothing_is_believed_for_a_shorter_while(time: Time, shared: BrokenKeyValue) -> None:
    store = Store()
    cache = a_cache(time, shared)
    assert get(cache, store, "a") == [None]
    store.held["a"] = "A"
    time.s += NEGATIVE_TTL_S * 0.89
    assert get(cache, store, "a") == [None]
    time.s += NEGATIVE_TTL_S * 0.11
    assert get(cache, store, "a") == ["A"]


def test_what_was_filled_at_once_does_not_run_out_at_once(time: Time) -> None:
    store = Store(**{f"k{n}": "v" for n in range(200)})
    cache = a_cache(time)
    get(cache, store, *store.held)
    n_held = []
    for _ in range(10):
        n_held.append(sum(value is not None for value in cache.in_memory([key.encode() for key in store.held])))
        time.s = 1_000.0 + TTL_S * (0.9 + 0.01 * len(n_held))
    assert n_held[0] == 200
    assert all(earlier > later for earlier, later in itertools.pairwise(n_held))


def test_an_error_is_told_and_not_remembered(time: Time, shared: BrokenKeyValue) -> None:
    store = Store(a="A")
    cache = a_cache(time, shared)
    store.problem = OSError("broken")
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            get(cache, store, "a")
    store.problem = None
    assert get(cache, store, "a") == ["A"]
    assert counted(cache) == {"n_store": 1, "n_loads": 3, "n_failed_loads": 2}


def test_a_load_that_gives_too_few_values_is_refused(time: Time) -> None:
    with pytest.raises(StoreError, match="cache load 1: values for 2 keys"):
        a_cache(time).get_many([b"a", b"b"], lambda _: ["A"])


def test_a_shared_level_that_is_away_is_left_alone_for_a_moment(time: Time, shared: BrokenKeyValue) -> None:
    store = Store(a="A", b="B", c="C")
    cache = a_cache(time, shared)
    shared.is_away = True
    assert [get(cache, store, key) for key in "ab"] == [["A"], ["B"]]
    assert shared.n_calls == 1
    time.s += 1
    shared.is_away = False
    assert get(cache, store, "c") == ["C"]
    assert counted(cache) == {"n_store": 3, "n_loads": 3, "n_shared_failures": 1}
    assert get(a_cache(time, shared), store, "c", "a") == ["C", "A"]
    assert store.asked[-1] == ["a"]


def test_what_cannot_be_read_counts_as_missing_and_is_replaced(time: Time, shared: BrokenKeyValue) -> None:
    store = Store(a="A", b="B")
    get(a_cache(time, shared), store, "a", "b")
    (end_and_value,) = shared.get_many([b"c:a"])
    assert end_and_value is not None
    shared.set_many({b"c:a": end_and_value[:9] + b"\xff"})  # no text: another release's, say
    cache = a_cache(time, shared)
    assert get(cache, store, "a", "b") == ["A", "B"]
    assert counted(cache) == {"n_shared": 1, "n_store": 1, "n_loads": 1}
    assert store.asked == [["a", "b"], ["a"]]
    assert get(a_cache(time, shared), store, "a") == ["A"]
    assert len(store.asked) == 2


def test_memory_keeps_what_was_used_last_within_its_bytes(time: Time) -> None:
    store = Store(**dict.fromkeys("abcd", "v" * 99))
    cache = a_cache(time, max_bytes=3 * (100 + ENTRY_BYTES))
    get(cache, store, "a", "b", "c")
    assert cache.counts.n_bytes == 3 * (100 + ENTRY_BYTES)
    get(cache, store, "a")
    get(cache, store, "d")
    assert [value is not None for value in cache.in_memory([b"a", b"b", b"c", b"d"])] == [True, False, True, True]
    assert (cache.counts.n_evicted, cache.counts.n_bytes) == (1, 3 * (100 + ENTRY_BYTES))
    store.held["huge"] = "v" * 10_000
    assert get(cache, store, "huge") == ["v" * 10_000]
    assert cache.counts.n_evicted == 1


def test_what_was_removed_is_asked_for_again_by_everybody_who_does_not_remember(
    time: Time, shared: BrokenKeyValue
) -> None:
    store = Store(a="old", b="B")
    one, other = a_cache(time, shared), a_cache(time, shared)
    get(one, store, "a", "b")
    store.held["a"] = "new"
    one.remove_many([b"a"])
    assert get(one, store, "a", "b") == ["new", "B"]
    assert get(other, store, "a", "b") == ["new", "B"]
    one.clear_memory()
    time.s += LEASE_MS / 1_000
    assert get(one, store, "a", "b") == ["new", "B"]
    assert store.asked == [["a", "b"], ["a"], ["a"], ["a"]]  # the mark lets nobody fill the shared level for a moment


def test_an_old_value_that_was_being_loaded_does_not_come_back_after_a_removal(
    time: Time, shared: BrokenKeyValue
) -> None:
    store = Store(a="old")
    one, other = a_cache(time, shared), a_cache(time, shared)

    def load(keys: Sequence[bytes]) -> list[str | None]:
        found = store.load(keys)
        store.held["a"] = "new"
        one.remove_many([b"a"])
        return found

    assert one.get_many([b"a"], load) == ["old"]  # as it was when this was asked
    assert get(one, store, "a") == ["new"]
    assert other.get_many([b"a"], load) == ["new"]


def test_a_value_that_is_refused_counts_as_missing(time: Time, shared: BrokenKeyValue) -> None:
    store = Store(a="1")
    one, other = a_cache(time, shared), a_cache(time, shared)
    get(one, store, "a")
    store.held["a"] = "2"
    assert get(one, store, "a") == ["1"]
    assert other.get_many([b"a"], store.load, lambda value: value >= "2") == ["2"]
    assert one.get_many([b"a"], store.load, lambda value: value >= "2") == ["2"]
    assert counted(one) == {"n_memory": 1, "n_shared": 1, "n_store": 1, "n_loads": 1}
    assert get(one, store, "a") == ["2"]


class Gate:
    """A load that does not answer before it is let."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_asked = threading.Event()
        self.may_answer = threading.Event()

    def load(self, keys: Sequence[bytes]) -> list[str | None]:
        self.is_asked.set()
        assert self.may_answer.wait(60)
        return self.store.load(keys)


def wait_until_waiting(cache: Cache, n: int) -> None:
    while cache.counts.n_waited < n:
        threading.Event().wait(0.001)


def test_a_hundred_threads_that_miss_a_key_load_it_once(time: Time, shared: BrokenKeyValue) -> None:
    cache, gate = a_cache(time, shared), Gate(Store(a="A"))
    with ThreadPoolExecutor(100) as threads:
        answers = [threads.submit(cache.get_many, [b"a", b"x"], gate.load) for _ in range(100)]
        wait_until_waiting(cache, 198)
        gate.may_answer.set()
        assert [answer.result() for answer in answers] == [["A", None]] * 100
    assert gate.store.asked == [["a", "x"]]
    assert counted(cache) == {"n_store": 2, "n_waited": 198, "n_loads": 1, "n_absent": 100}
    cache.close()


def test_a_thousand_tasks_and_threads_that_miss_a_key_load_it_once(time: Time, shared: BrokenKeyValue) -> None:
    cache, gate = a_cache(time, shared), Gate(Store(a="A"))

    async def ask() -> list[list[str | None]]:
        tasks = [asyncio.create_task(cache.get_many_async([b"a"], gate.load)) for _ in range(950)]
        with ThreadPoolExecutor(50) as threads:
            loop = asyncio.get_running_loop()
            others = [loop.run_in_executor(threads, cache.get_many, [b"a"], gate.load) for _ in range(50)]
            await asyncio.to_thread(wait_until_waiting, cache, 999)
            gate.may_answer.set()
            return await asyncio.gather(*tasks, *others)

    assert asyncio.run(ask()) == [["A"]] * 1_000
    assert gate.store.asked == [["a"]]
    cache.close()


def test_an_error_reaches_all_who_wait_and_the_next_one_asks_again(time: Time) -> None:
    cache, gate = a_cache(time), Gate(Store(a="A"))
    gate.store.problem = OSError("broken")

    async def ask() -> list[Any]:
        tasks = [asyncio.create_task(cache.get_many_async([b"a"], gate.load)) for _ in range(10)]
        await asyncio.to_thread(wait_until_waiting, cache, 9)
        gate.may_answer.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(ask())] == [OSError] * 10
    gate.store.problem = None
    assert get(cache, gate.store, "a") == ["A"]
    assert gate.store.asked == [["a"], ["a"]]
    cache.close()


def test_a_task_that_is_cancelled_takes_the_answer_from_nobody(time: Time) -> None:
    cache, gate = a_cache(time), Gate(Store(a="A"))

    async def ask() -> list[str | None]:
        first = asyncio.create_task(cache.get_many_async([b"a"], gate.load))
        await asyncio.to_thread(gate.is_asked.wait, 60)
        second, third = (asyncio.create_task(cache.get_many_async([b"a"], gate.load)) for _ in range(2))
        await asyncio.to_thread(wait_until_waiting, cache, 2)
        first.cancel()
        second.cancel()
        await asyncio.sleep(0)
        gate.may_answer.set()
        return await third

    assert asyncio.run(ask()) == ["A"]
    assert gate.store.asked == [["a"]]
    assert cache.in_memory([b"a"]) == ["A"]
    cache.close()


def test_who_refuses_what_was_loaded_for_another_asks_again(time: Time) -> None:
    store = Store(a="1")
    cache, gate = a_cache(time), Gate(store)

    def newer(keys: Sequence[bytes]) -> list[str | None]:
        return ["2" for _ in keys]

    async def ask() -> list[list[str | None]]:
        first = asyncio.create_task(cache.get_many_async([b"a"], gate.load))
        await asyncio.to_thread(gate.is_asked.wait, 60)
        second = asyncio.create_task(cache.get_many_async([b"a"], newer, lambda value: value >= "2"))
        await asyncio.to_thread(wait_until_waiting, cache, 1)
        gate.may_answer.set()
        return await asyncio.gather(first, second)

    assert asyncio.run(ask()) == [["1"], ["2"]]
    cache.close()


KEY = st.sampled_from("abcdef")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("get"), st.lists(KEY, max_size=8), st.booleans()),
            st.tuples(st.just("set"), KEY, st.sampled_from([None, "1", "22", "333"])),
            st.tuples(st.just("wait"), st.sampled_from([1.0, 6.0, 20.0, 120.0]), st.just(0)),
        ),
        max_size=40,
    ),
    st.sampled_from([0, 600, 100_000]),
)
def test_readers_never_see_what_was_removed_where_they_are_nor_what_is_too_old_elsewhere(
    steps: list[tuple[str, Any, Any]], max_bytes: int
) -> None:
    """Changes go through one process: there they are seen at once, in the other at the latest after a life."""
    time = Time()
    shared = MemoryKeyValue(time)
    store = Store()
    here, there = a_cache(time, shared, max_bytes), a_cache(time, shared, max_bytes)
    past: dict[str, list[tuple[float, str | None]]] = {key: [(0.0, None)] for key in "abcdef"}
    for what, of, value in steps:
        if what == "wait":
            time.s += of
        elif what == "set":
            store.held = {**store.held, of: value} if value else {k: v for k, v in store.held.items() if k != of}
            past[of].append((time.s, value))
            here.remove_many([of.encode()])
        elif value:
            assert get(here, store, *of) == [store.held.get(key) for key in of]
        else:
            for key, found in zip(of, get(there, store, *of), strict=True):
                ends = [at for at, _ in past[key][1:]] + [float("inf")]
                assert found in [v for (_, v), end in zip(past[key], ends, strict=True) if end > time.s - TTL_S]
