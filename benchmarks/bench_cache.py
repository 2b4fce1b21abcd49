"""Reading posts through `MultiLevelCache`: process memory, a real Redis, and the content store on a real PostgreSQL.

* ``ours``: of 100 keys, each asked for alone, 60 are in this process's memory, 30 in Redis only, 10 in the store only
  (checked by the cache's own counts); the mean of a read, filling of the levels above included. ``*_mix_ms`` is the
  same of the levels' medians: what it would be if no other process ever held up a read.
* ``store``: the store is asked every time.
* ``ttl_lock``: what a good engineer would write in an afternoon: a dictionary with ends and one lock, which is
  held while the store is asked; no second level.
* ``redis_first``: Redis, then the store, without process memory and single flight.

Then 1,000 callers (900 tasks of an event loop and 100 threads) miss one key at once: how often the store is asked
(``loads``, beside ``naive_loads`` of callers who look first and ask then). All must give the posts that were written.
The baseline ``ttl_lock`` and ours get the same share of keys in memory. PostgreSQL and Redis run on this machine,
started for the purpose; ``fsync`` is off, which reads do not feel.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

import harness
from millrace.base.clock import SystemClock
from millrace.base.ids import IdHasher, IdKind
from millrace.stores.cache import MultiLevelCache
from millrace.stores.content_store import ContentStore
from millrace.stores.memory_level import MemoryLevel
from millrace.stores.postgres_content import PostgresContentReads, PostgresContentWrites
from millrace.stores.redis_key_value import RedisKeyValue
from millrace.stores.shared_level import SharedLevel
from millrace.testing.builders import a_batch_of, a_post_created
from millrace.testing.postgres_server import PostgresServer

N_POSTS: Final = 20_000
N_READS: Final = 500
ROUNDS: Final = 3
N_CALLERS, N_THREADS = 1_000, 100
TTL_S: Final = 600.0
CLOCK: Final = SystemClock()

Read = Callable[[bytes], bytes | None]


class Store:
    """The content store, asked by key."""

    def __init__(self, url: str) -> None:
        self.reads = PostgresContentReads(url)
        self.n_loads = 0

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.n_loads += 1
        ids = [int.from_bytes(key, "big", signed=True) for key in keys]
        _, rows = self.reads.posts(ids, 2**62)
        return [rows.get(post_id) for post_id in ids]

    def read(self, key: bytes) -> bytes | None:
        return self.load([key])[0]


class TtlLock:
    """A dictionary with ends behind one lock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: dict[bytes, tuple[bytes | None, float]] = {}
        self.lock = threading.Lock()

    def read(self, key: bytes) -> bytes | None:
        with self.lock:
            found = self.held.get(key)
            if found is None or found[1] <= time.monotonic():
                found = self.held[key] = (self.store.read(key), time.monotonic() + TTL_S)
            return found[0]


class RedisFirst:
    """Redis, then the store."""

    def __init__(self, client: Any, store: Store) -> None:
        self.client = client
        self.store = store

    def read(self, key: bytes) -> bytes | None:
        found: bytes | None = self.client.get(b"first:" + key)
        if found is None:
            found = self.store.read(key)
            if found is not None:
                self.client.set(b"first:" + key, found, ex=int(TTL_S))
        return found


@contextlib.contextmanager
def own_redis() -> Iterator[str]:
    """Run a Redis of this benchmark's own; yield its URL."""
    import redis

    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed; figures need the real one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    try:
        with redis.Redis(port=port) as client:
            for _ in range(500):
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def fill(url: str) -> dict[bytes, bytes]:
    """Write the posts; return what must be read, by key."""
    hasher = IdHasher()
    store = ContentStore(PostgresContentWrites(url), hasher)
    rng = np.random.default_rng(7)
    for first in range(0, N_POSTS, 5_000):
        numbers = range(first, first + 5_000)
        text = ["wheel " * int(n) for n in rng.integers(5, 80, len(numbers))]
        events = [a_post_created(f"p{n}", f"u{n % 997}", text=text[n - first]) for n in numbers]
        store.hear(a_batch_of(events, first_offset=first))
        store.commit((first + 5_000,))
    store.close()
    keys = [hasher.one(IdKind.POST, f"p{n}").to_bytes(8, "big", signed=True) for n in range(N_POSTS)]
    found = Store(url).load(keys)
    assert all(data is not None for data in found)
    return {key: data for key, data in zip(keys, found, strict=True) if data is not None}


def a_cache(redis_url: str, prefix: bytes, n_bytes: int = 500_000_000) -> MultiLevelCache[bytes]:
    memory: MemoryLevel[bytes] = MemoryLevel(n_bytes, CLOCK, np.random.default_rng(1))
    shared = SharedLevel(RedisKeyValue(redis_url, CLOCK, prefix="bench"), bytes, bytes, CLOCK, prefix)
    return MultiLevelCache(memory, shared, size=len, ttl_s=TTL_S, negative_ttl_s=TTL_S)


def mean_read_ms(redis_url: str, client: Any, url: str, posts: dict[bytes, bytes]) -> tuple[dict[str, Any], bool]:
    """Time reads of 60/30/10 keys, everybody's in turns; return mean milliseconds and whether all agreed."""
    rng = np.random.default_rng(3)
    seconds: dict[str, list[float]] = {}
    by_level: dict[str, dict[str, list[float]]] = {}
    equal = True
    for round_number in range(-1, ROUNDS):
        prefix = b"round%d:" % (round_number + 1)
        harness.note(f"round {round_number + 1} of {ROUNDS}, the first does not count …")
        keys = [list(posts)[n] for n in rng.permutation(N_POSTS)[:N_READS]]
        n_memory, n_redis = int(0.6 * N_READS), int(0.3 * N_READS)
        store, ours = Store(url), a_cache(redis_url, prefix)
        ttl_lock, redis_first = TtlLock(store), RedisFirst(client, store)
        a_cache(redis_url, prefix).get_many(keys[: n_memory + n_redis], store.load)
        ours.get_many(keys[:n_memory], store.load)
        for key in keys[:n_memory]:
            ttl_lock.read(key)
        for key in keys[: n_memory + n_redis]:
            client.set(b"first:" + key, posts[key], ex=int(TTL_S))
        readers: dict[str, Read] = {
            "ours": lambda key, ours=ours, store=store: ours.get_many([key], store.load)[0],  # type: ignore[misc]
            "store": store.read,
            "ttl_lock": ttl_lock.read,
            "redis_first": redis_first.read,
        }
        before = ours.counts
        order = rng.permutation(N_READS).tolist()
        turns = list(readers)
        for name in turns[round_number % 4 :] + turns[: round_number % 4]:
            read, took = readers[name], []
            for n in order:
                start = time.perf_counter()
                found = read(keys[n])
                took.append(time.perf_counter() - start)
                equal &= found == posts[keys[n]]
                if round_number >= 0:
                    level = "memory" if n < n_memory else "redis" if n < n_memory + n_redis else "store"
                    by_level.setdefault(name, {}).setdefault(level, []).append(took[-1])
            if round_number >= 0:
                seconds.setdefault(name, []).append(float(np.mean(took)))
        after = ours.counts
        shares = (
            after.n_memory - before.n_memory,
            after.n_shared - before.n_shared,
            after.n_store - before.n_store,
        )
        assert shares == (n_memory, n_redis, N_READS - n_memory - n_redis), shares
        ours.close()
        for key in keys:
            client.delete(b"first:" + key)
    figures: dict[str, Any] = {f"{name}_ms": float(np.median(values)) * 1e3 for name, values in seconds.items()}
    for name, levels in by_level.items():
        median_ms = {level: float(np.median(values)) * 1e3 for level, values in levels.items()}
        figures[f"{name}_mix_ms"] = 0.6 * median_ms["memory"] + 0.3 * median_ms["redis"] + 0.1 * median_ms["store"]
        if name == "ours":
            figures |= {f"ours_{level}_p50_ms": value for level, value in median_ms.items()}
    return figures, equal


def count_loads(redis_url: str, url: str, posts: dict[bytes, bytes]) -> tuple[int, int, float, bool]:
    """Let all callers miss one key at once; return loads of ours and of the naive, ours's seconds, and agreement."""
    key = next(iter(posts))
    store, cache = Store(url), a_cache(redis_url, b"storm:")

    async def storm(ask: Callable[[], Any], read: Callable[[], bytes | None]) -> list[Any]:
        loop = asyncio.get_running_loop()
        start = threading.Barrier(N_THREADS + 1)
        with ThreadPoolExecutor(N_THREADS) as threads:
            others = [loop.run_in_executor(threads, lambda: (start.wait(), read())[1]) for _ in range(N_THREADS)]
            tasks = [asyncio.create_task(ask()) for _ in range(N_CALLERS - N_THREADS)]
            start.wait()
            return await asyncio.gather(*tasks, *others)

    async def ask() -> bytes | None:
        return (await cache.get_many_async([key], store.load))[0]

    begun = time.perf_counter()
    answers = asyncio.run(storm(ask, lambda: cache.get_many([key], store.load)[0]))
    took_s = time.perf_counter() - begun
    equal = set(answers) == {posts[key]}
    loads = store.n_loads
    naive_store, held = Store(url), {}  # type: ignore[var-annotated]

    def look_then_ask() -> bytes | None:
        if key not in held:
            held[key] = naive_store.read(key)
        return held[key]

    async def ask_naively() -> bytes | None:
        return await asyncio.to_thread(look_then_ask)

    equal &= set(asyncio.run(storm(ask_naively, look_then_ask))) == {posts[key]}
    cache.close()
    return loads, naive_store.n_loads, took_s, equal


def main() -> None:
    harness.without_options(__doc__)
    import redis

    with PostgresServer() as server, own_redis() as redis_url, redis.Redis.from_url(redis_url) as client:
        harness.note(f"writing {N_POSTS:,} posts to PostgreSQL …")
        posts = fill(server.url)
        figures, equal = mean_read_ms(redis_url, client, server.url, posts)
        harness.note(f"{N_CALLERS:,} callers miss one key …")
        loads, naive_loads, storm_s, agreed = count_loads(redis_url, server.url, posts)
    harness.emit(
        "cache",
        equal=equal and agreed,
        ratio={name: figures[f"{name}_ms"] / figures["ours_ms"] for name in ("store", "ttl_lock", "redis_first")},
        **figures,
        loads=loads,
        naive_loads=naive_loads,
        callers=N_CALLERS,
        storm_ms=storm_s * 1e3,
        store="postgres",
    )


if __name__ == "__main__":
    main()
