"""What a page of the home feed costs, all in: HTTP, pipeline, claims, why, traces, the `Served` log, folding.

1. A world of 100k users and 1M posts is written through the door and folded into a checkpoint.
2. A real server starts, a keeper and two workers. It is checked that the same first page asked for twice
   (`X-Request-ID`) is the same page, and that pages are full.
3. Pages are asked for at random (Poisson) moments, 40 a second, whether or not earlier ones have come (open loop), for
   active viewers, while 200 events a second come in. Latency counts from the moment at which a page was due.
   Pages are made with models (``--models``): retrieval by two towers, pre-ranking of all that was found, ranking of
   500.
   Their weights are first weights, which cost what learned ones do.
4. ``cpu_ms_per_request`` is user and system time of all Millrace processes in that time over answered requests.

Usage: python benchmarks/bench_feed.py [--models none|nano|small] [--rate 40] [--seconds 60] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import feed_world
import harness
from bench_restart import Server, append_events, pss_bytes, run
from millrace.app.commands.init import make_home
from millrace.app.settings import load_settings

_HOME = "/api/v1/timeline/home"
_BUDGET_MS = 20.0
_PUBLISHED_MS = {
    "context": 5.0,
    "retrieval": 50.0,
    "hydrate": 5.0,
    "features": 10.0,
    "inference": 25.0,
    "re-rank": 5.0,
    "filter": 5.0,
}
"""What an industrial feed has published of its stages."""
_KINDS = ("ranker", "retrieval", "pre_ranker")
_PATIENCE_S = 600.0
_WARM_S = 8.0
_N_CONNECTIONS = 32  # taken in turn, as many visitors' are, so that all workers get their share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--events", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--models", choices=("none", "nano", "small"), default="nano", help="size; none: counters rank")
    parser.add_argument("--keep", type=Path, default=None, help="where to keep the world, for a later run within hours")
    args = parser.parse_args()
    sizes = feed_world.Sizes(
        n_users=args.users, n_posts=args.posts, n_engagements=args.posts, n_active=min(5_000, args.users)
    )
    if args.keep is not None:
        bench(args.keep, sizes, args)
        return
    with tempfile.TemporaryDirectory(prefix="millrace-bench-feed-") as folder:
        bench(Path(folder), sizes, args)


def bench(folder: Path, sizes: feed_world.Sizes, args: argparse.Namespace) -> None:
    home = folder / "home"
    if not (home / "millrace.toml").exists():
        settings, _ = make_home(home)
        harness.note(f"writing a world of {sizes.n_users:,} users and {sizes.n_posts:,} posts")
        started_s = time.perf_counter()
        append_events(settings, feed_world.events(sizes, feed_world.now_ms()))
        harness.note(f"written in {time.perf_counter() - started_s:.0f} s; folding it")
    run(home, "checkpoint")
    if args.models != "none":
        from untrained_models import let_untrained_serve

        let_untrained_serve(load_settings(home), folder / "models", args.models)
    server = Server(home, n_workers=2)
    try:
        harness.note(f"ready after {server.wait_ready(600):.1f} s")
        wait_all_ready(server)
        asyncio.run(Load(server, sizes, args).run())
    finally:
        if server.process.poll() is None:
            server.stop()


class Load:
    """Visitors and producers of one run."""

    def __init__(self, server: Server, sizes: feed_world.Sizes, args: argparse.Namespace) -> None:
        self._server = server
        self._sizes = sizes
        self._args = args
        self._viewers = feed_world.viewers(sizes)
        self._rng = np.random.default_rng(int(time.time()))
        self._idle: deque[Connection] = deque()
        self._run = os.urandom(4).hex()
        self.took_s: list[float] = []
        self.n_posts: list[int] = []
        self.n_failed = 0
        self.failures: Counter[str] = Counter()

    async def run(self) -> None:
        if self._args.models != "none":
            await self._until_models_serve()
        sample = await self._sample(40)
        for _ in range(_N_CONNECTIONS):
            self._idle.append(await Connection.open(self._server.port))
        await self._drive(_WARM_S)
        self.took_s, self.n_posts, self.n_failed = [], [], 0
        self.failures.clear()
        harness.note(f"{self._args.rate:g} pages/s and {self._args.events:g} events/s for {self._args.seconds:g} s")
        before_s, began_s = cpu_seconds(self._server), time.perf_counter()
        await self._drive(self._args.seconds)
        after_s, lasted_s = cpu_seconds(self._server), time.perf_counter() - began_s
        by_process_s = {pid: after_s[pid] - before_s.get(pid, 0.0) for pid in after_s}
        cpu_s = sum(by_process_s.values())
        for failure, n in self.failures.most_common(3):
            harness.note(f"{n} failed: {failure}")
        took = np.array(self.took_s)
        cpu_ms = 1e3 * cpu_s / max(len(took), 1)
        pss = sum(pss_bytes(process.pid) for process in self._server.processes()) / 1e6
        harness.emit(
            "feed",
            equal=sample["equal"],
            ratio={"budget_of_20_ms": _BUDGET_MS / cpu_ms},
            cpu_ms_per_request=cpu_ms,
            cpu_ms_by_process=[1e3 * seconds / max(len(took), 1) for seconds in by_process_s.values()],
            p50_ms=harness.percentile_ms(took, 50),
            p95_ms=harness.percentile_ms(took, 95),
            p99_ms=harness.percentile_ms(took, 99),
            candidates=sample["candidates"],
            candidates_min=sample["candidates_min"],
            full_pages_frac=float(np.mean(np.array(self.n_posts) == 35)),
            pss_mb=pss,
            n_requests=len(took),
            n_failed=self.n_failed,
            requests_per_s=len(took) / lasted_s,
            events_per_s=self._args.events,
            n_users=self._sizes.n_users,
            n_posts=self._sizes.n_posts,
            latency_ms=sample["latency_ms"],
            ranked=sample["ranked"],
            models=self._args.models,
            load=os.getloadavg()[0],
            published_ms=_PUBLISHED_MS,
            ours_ms=beside_published(sample["latency_ms"]),
        )

    async def _sample(self, n: int) -> dict[str, Any]:
        """Look at some pages closely: how many candidates, which stage takes how long, the same page twice."""
        candidates, ranked, latencies, equal = [], [], [], True
        for number in range(n):
            viewer = self._viewers[-1 - number]
            path = f"{_HOME}?viewer={viewer}&debug=true"
            first = json.loads(await self._get(path, f"s{self._run}-{number}"))
            again = json.loads(await self._get(path, f"s{self._run}-{number}"))
            equal = equal and [p["post_id"] for p in first["posts"]] == [p["post_id"] for p in again["posts"]]
            candidates.append(first["debug_info"]["candidate_count"])
            ranked.append(first["debug_info"]["after_filtering"])
            latencies.append(first["debug_info"]["latency_breakdown"])
        stages = sorted({stage for latency in latencies for stage in latency})
        medians = {s: float(np.median([latency.get(s, 0.0) for latency in latencies])) for s in stages}
        found = {
            "candidates": float(np.median(candidates)),
            "candidates_min": int(min(candidates)),
            "ranked": float(np.median(ranked)),
        }
        return {**found, "equal": equal, "latency_ms": medians}

    async def _until_models_serve(self) -> None:
        """Wait until each worker's pages are made with all models: a worker fills its index of posts beside them."""
        n_in_row, began_s = 0, time.perf_counter()
        while n_in_row < 12:
            path = f"{_HOME}?viewer={self._viewers[-1]}&debug=true"
            info = json.loads(await self._get_once(path))["debug_info"]
            is_whole = info["retrieved"].get("vector", 0) > 0 and len(info["models"]) == len(_KINDS)
            n_in_row = n_in_row + 1 if is_whole else 0
            if time.perf_counter() - began_s > _PATIENCE_S:
                raise SystemExit(
                    f"bench feed: models {info['models']} find {info['retrieved']} after {_PATIENCE_S:g} s"
                )
            await asyncio.sleep(0.05 if is_whole else 1.0)
        harness.note(f"models serve after {time.perf_counter() - began_s:.1f} s")

    async def _get_once(self, path: str) -> bytes:
        """Ask on a connection of its own: the kernel deals it out to any worker."""
        connection = await Connection.open(self._server.port)
        try:
            return await connection.ask("GET", path, b"", "")
        finally:
            connection.close()

    async def _drive(self, seconds: float) -> None:
        began_s = time.perf_counter()
        producing = asyncio.create_task(self._produce(began_s + seconds))
        asked: set[asyncio.Task[None]] = set()
        due_s = began_s
        while (due_s := due_s + self._rng.exponential(1 / self._args.rate)) < began_s + seconds:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            viewer = self._viewers[int(self._rng.integers(len(self._viewers) - 50))]
            asked.add(asyncio.create_task(self._visit(viewer, due_s)))
        await asyncio.gather(*asked, producing)

    async def _visit(self, viewer: str, due_s: float) -> None:
        try:
            page = json.loads(await self._get(f"{_HOME}?viewer={viewer}&debug=false"))
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self.n_failed += 1
            self.failures[str(error)[:160]] += 1
            return
        self.took_s.append(time.perf_counter() - due_s)
        self.n_posts.append(len(page["posts"]))

    async def _produce(self, until_s: float) -> None:
        every_s, first = 0.1, int(time.time() * 1000)
        next_s = time.perf_counter()
        while time.perf_counter() < until_s:
            n = round(self._args.events * every_s)
            events = feed_world.more(self._sizes, first, n, feed_world.now_ms())
            first += n
            await self._ask("POST", "/api/v1/events", json.dumps(events).encode())
            next_s += every_s
            await asyncio.sleep(max(0.0, next_s - time.perf_counter()))

    async def _get(self, path: str, request_id: str = "") -> bytes:
        return await self._ask("GET", path, b"", request_id)

    async def _ask(self, method: str, path: str, body: bytes, request_id: str = "") -> bytes:
        while self._idle and self._idle[0].is_closed():  # the server closes what was idle for some seconds
            self._idle.popleft()
        connection = self._idle.popleft() if self._idle else await Connection.open(self._server.port)
        try:
            answer = await connection.ask(method, path, body, request_id)
        except (ConnectionResetError, asyncio.IncompleteReadError):
            # Closed as idle while this was on its way: as any client does, once more on a fresh one. Events that did
            # arrive are known by their ids.
            connection = await Connection.open(self._server.port)
            answer = await connection.ask(method, path, body, request_id)
        self._idle.append(connection)
        return answer


class Connection:
    """One kept-alive HTTP connection: as little of a client as will do, for it shares the cores with the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    def close(self) -> None:
        self._writer.close()

    def is_closed(self) -> bool:
        return self._reader.at_eof()

    async def ask(self, method: str, path: str, body: bytes, request_id: str) -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n" if body else ""
        head += f"X-Request-ID: {request_id}\r\n" if request_id else ""
        self._writer.write(head.encode() + b"\r\n" + body)
        top = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(top.split("content-length:")[1].split("\r\n")[0])
        answer = await self._reader.readexactly(length)
        if not top.startswith("http/1.1 2"):
            raise OSError(top.splitlines()[0] + answer[:200].decode(errors="replace"))
        return answer


def beside_published(latency_ms: dict[str, float]) -> dict[str, float]:
    """Return our stages under the published names; encoding for models is part of inference here."""
    groups = {
        "context": ("query_hydrator",),
        "retrieval": ("source", "merge"),
        "hydrate": ("hydrator", "late_hydrator"),
        "inference": ("pre_ranker", "ranker", "value_model"),
        "re-rank": ("re_ranker", "selector"),
        "filter": ("filter", "late_filter"),
    }
    return {name: sum(latency_ms.get(stage, 0.0) for stage in stages) for name, stages in groups.items()}


def wait_all_ready(server: Server) -> None:
    """Return once each worker is ready: the kernel deals new connections out among the workers by chance."""
    url, n_in_row = f"http://127.0.0.1:{server.port}/readyz", 0
    while n_in_row < 12:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                n_in_row = n_in_row + 1 if answer.status == 200 else 0
        except OSError:
            n_in_row = 0
            time.sleep(0.05)


def cpu_seconds(server: Server) -> dict[int, float]:
    """Return user and system time so far of the supervisor, the keeper and the workers, by process id."""
    found: dict[int, float] = {}
    for process in server.processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[process.pid] = times.user + times.system
    return found


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"bench feed: {error}") from error
