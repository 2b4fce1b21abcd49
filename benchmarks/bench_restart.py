"""How long a server that was killed takes to be ready again, and what one more worker costs.

1. A log of 1M events of 100k users is written, and a server (keeper and one worker) folds it.
2. While events keep coming, every process of the server and the producer are killed with SIGKILL.
3. A fresh interpreter starts the server; ``ready_s`` is the time from its start until ``/readyz`` answers 200.
   The log goes on growing; 2 and 3 are repeated, medians are reported.
4. The state that a restart finds (checkpoint and tail) is compared with a replay from zero, array by array, and
   the content store with one made anew. ``ratio["replay"]`` compares with what a restart would take without
   checkpoints: the same interpreter start, then a replay of the whole log.
5. The log grows until 1M posts live; ``worker_pss_mb`` is the growth of the proportional set size (PSS) of all
   processes together when the server is started with two workers instead of one.

Usage: python benchmarks/bench_restart.py [--events 1000000] [--users 100000] [--posts 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

import harness
from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.settings import Settings
from millrace.base.ids import IdHasher
from millrace.events.content_events import PostCreated
from millrace.events.envelope import AnyEvent, Event
from millrace.events.feed_events import Engagement, Impression
from millrace.events.user_events import FollowChanged, ProfileUpdated
from millrace.stores.content_store import ContentStore
from millrace.stores.sqlite_content import SqliteContentWrites
from millrace.stream.log import total

_MILLRACE = [sys.executable, "-c", "from millrace.app.cli import main; main()"]
_BATCH = 4096
_EXPORTS = False
"""Exports load pyarrow into the keeper whenever they are due, here or there in a round: left out; the line says so."""

_WORDS = [
    "the",
    "wheel",
    "turns",
    "as",
    "long",
    "as",
    "water",
    "comes",
    "down",
    "from",
    "the",
    "hill",
    "to",
    "the",
    "sea",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--home", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--produce", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.produce is not None:
        produce(args.home, args.produce, args.users)
        return
    with tempfile.TemporaryDirectory(prefix="millrace-bench-restart-") as folder:
        bench(Path(folder) / "home", args)


def bench(home: Path, args: argparse.Namespace) -> None:
    settings, _ = make_home(home)
    harness.note(f"writing {args.events:,} events of {args.users:,} users")
    append_events(settings, some_events(args.events, args.users, first=0))
    server = Server(home, n_workers=1)
    harness.note(f"first start, from an empty state: ready after {server.wait_ready(600):.1f} s")
    run(home, "checkpoint")

    ready_s, tails = [], []
    first = args.events
    for round_number in range(args.rounds):
        producer = subprocess.Popen(
            [sys.executable, __file__, "--home", str(home), "--produce", str(first), "--users", str(args.users)]
        )
        time.sleep(12.0 + 3 * round_number)  # somewhere within the ingest
        producer.kill()
        server.kill()
        producer.wait()
        first += 10_000_000  # the next producer's events are new ones
        tails.append(log_end(settings) - newest_checkpoint(settings))
        server = Server(home, n_workers=1)
        ready_s.append(server.wait_ready(120))
        harness.note(f"killed while ingesting, {tails[-1]:,} records after the checkpoint: {ready_s[-1]:.2f} s")
        if "checkpoint" in (said := server.messages.read_text()) and "ERROR" in said:
            sys.exit(f"a checkpoint was refused, so this is no restart:\n{said}")
    server.kill()

    end = log_end(settings)
    equal, replay_s = equals_replay(settings)
    harness.note(f"replay from zero of {end:,} events: {replay_s:.1f} s; equal: {equal}")

    harness.note(f"growing the world to {args.posts:,} posts")
    n_more = args.posts - int(0.3 * args.events)
    append_events(settings, some_posts(max(n_more, 0), args.users, first=first))
    run(home, "checkpoint")
    n_posts = live_posts(settings)
    alone, together = zip(*[(pss_mb(home, 1), pss_mb(home, 2)) for _ in range(3)], strict=True)
    harness.emit(
        "restart",
        equal=equal,
        ratio={"replay": (replay_s + interpreter_start_s()) / float(np.median(ready_s))},
        ready_s=float(np.median(ready_s)),
        ready_max_s=max(ready_s),
        worker_pss_mb=float(np.median(np.subtract(together, alone))),
        server_pss_mb=float(np.median(alone)),
        replay_s=replay_s,
        n_events=end,
        n_users=args.users,
        n_posts=n_posts,
        exports_to_warehouse=_EXPORTS,
        tail_records=tails,
        checkpoint_mb=checkpoint_bytes(settings) / 1e6,
    )


class Server:
    """``millrace serve`` in a process group of its own."""

    def __init__(self, home: Path, n_workers: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.started_s = time.perf_counter()
        options = ["--home", str(home), "--workers", str(n_workers), "--set", f"server.port={self.port}"]
        options += ["--set", f"replica.exports_to_warehouse={str(_EXPORTS).lower()}"]
        self.messages = home / "server.log"
        with self.messages.open("w") as messages:
            self.process = subprocess.Popen(
                [*_MILLRACE, "serve", *options], stdout=messages, stderr=messages, start_new_session=True
            )

    def wait_ready(self, timeout_s: float) -> float:
        """Return the seconds from the start until ``/readyz`` answered 200."""
        url = f"http://127.0.0.1:{self.port}/readyz"
        while time.perf_counter() - self.started_s < timeout_s:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if answer.status == 200:
                        return time.perf_counter() - self.started_s
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.kill()
        sys.exit(f"the server was not ready within {timeout_s} s:\n{self.messages.read_text()}")

    def processes(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def kill(self) -> None:
        """Kill every process at once, as a power cut would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(120)


def some_events(n: int, n_users: int, first: int) -> Iterator[AnyEvent]:
    """Yield a world's events: 30% posts, 20% follows, 30% impressions, 15% engagements, 5% profiles."""
    rng = np.random.default_rng(first + 1)
    now_ms = time.time_ns() // 1_000_000
    kinds = rng.choice(5, size=n, p=[0.3, 0.2, 0.3, 0.15, 0.05]).tolist()
    users = rng.integers(n_users, size=n).tolist()
    # Who is followed and seen is skewed, as in the world: few are seen by many.
    others = (n_users * rng.random(n) ** 3).astype(np.int64).tolist()
    actions = rng.choice(["like", "reply", "repost", "bookmark", "click"], size=n).tolist()
    span_ms = 24 * 3_600_000
    posts: list[str] = [f"p{first}-0"]
    for row in range(n):
        at_ms = now_ms - span_ms + row * span_ms // n
        user, kind = f"u{users[row]}", kinds[row]
        payload: PostCreated | FollowChanged | Impression | Engagement | ProfileUpdated
        if kind == 0:
            posts.append(f"p{first}-{row}")
            payload = PostCreated(post_id=posts[-1], author_id=f"u{others[row]}" if row % 3 else user, text=text(row))
        elif kind == 1:
            payload = FollowChanged(follower_id=user, followee_id=f"u{others[row]}")
        elif kind == 4:
            payload = ProfileUpdated(user_id=user, name=f"User {users[row]}", languages=("en",))
        else:
            post_id = posts[len(posts) - 1 - (others[row] * 7919 + row) % min(len(posts), 50_000)]
            if kind == 2:
                payload = Impression(viewer_id=user, post_id=post_id, dwell_ms=1_000 + row % 9_000)
            else:
                payload = Engagement(viewer_id=user, post_id=post_id, action=actions[row])
        yield Event(event_id=f"e{first + row}", event_time_ms=at_ms, source="bench", payload=payload)


def some_posts(n: int, n_users: int, first: int) -> Iterator[AnyEvent]:
    """Yield ``n`` posts, each author writing as much as the others, all within the last hours."""
    now_ms = time.time_ns() // 1_000_000
    for row in range(n):
        payload = PostCreated(post_id=f"q{first}-{row}", author_id=f"u{row % n_users}", text=text(row))
        at_ms = now_ms - (n - row) // 100
        yield Event(event_id=f"q{first + row}", event_time_ms=at_ms, source="bench", payload=payload)


def text(row: int) -> str:
    start = row % len(_WORDS)
    return " ".join(_WORDS[start:] + _WORDS[:start]) + f" {row}"


def append_events(settings: Settings, events: Iterator[AnyEvent]) -> None:
    log = wiring.build_log(settings)
    collector = wiring.build_collector(settings, log, wiring.build_codec(settings))
    batch: list[AnyEvent] = []
    for event in events:
        batch.append(event)
        if len(batch) == _BATCH:
            collector.submit(batch)
            batch = []
    collector.submit(batch)
    log.close()


def produce(home: Path, first: int, n_users: int, per_s: int = 20_000) -> None:
    """Append events until killed, five hundred at a time, at about the rate of a site a hundred times as large."""
    from millrace.app.settings import load_settings

    settings = load_settings(home)
    log = wiring.build_log(settings)
    collector = wiring.build_collector(settings, log, wiring.build_codec(settings))
    batch: list[AnyEvent] = []
    started_s = time.monotonic()
    for number, event in enumerate(some_events(1_000_000, n_users, first)):
        batch.append(event)
        if len(batch) == 500:
            collector.submit(batch)
            batch = []
            time.sleep(max(0.0, started_s + number / per_s - time.monotonic()))


def equals_replay(settings: Settings) -> tuple[bool, float]:
    """Compare checkpoint and tail with a replay from zero; return whether equal, and the replay's seconds."""
    log = wiring.build_log(settings)
    restored = wiring.build_replica(settings, log, has_content_reads=False)
    if restored.restore() is None:
        sys.exit("no checkpoint could be used")
    restored.catch_up()
    with tempfile.TemporaryDirectory() as folder:
        content = ContentStore(SqliteContentWrites(Path(folder) / "content.db"), IdHasher())
        replayed = wiring.build_replica(settings, log, listeners=(content,), has_content_reads=False)
        start = time.perf_counter()
        while len(replayed.step(16_384).records):
            content.commit(replayed.position)
        replay_s = time.perf_counter() - start
        ours, theirs = restored.arrays(), replayed.arrays()
        equal = restored.position == replayed.position and ours.keys() == theirs.keys()
        for store in ours:
            for name in ours[store].keys() | theirs[store].keys():
                same = ours[store][name].tobytes() == theirs[store][name].tobytes()
                if not same:
                    harness.note(f"differs: {store}/{name}")
                equal = equal and same
        equal = equal and same_content(settings.content_path, Path(folder) / "content.db")
        content.close()
    restored.close()
    replayed.close()
    log.close()
    return equal, replay_s


def live_posts(settings: Settings) -> int:
    """Return how many posts the newest state holds: rings are bounded, so not every post of the log is in one."""
    log = wiring.build_log(settings)
    replica = wiring.build_replica(settings, log, has_content_reads=False)
    replica.restore()
    replica.catch_up()
    n_posts = replica.state.posts.n_posts
    replica.close()
    log.close()
    return int(n_posts)


def same_content(kept: Path, anew: Path) -> bool:
    """Whether the keeper's file, as far as it came before the kill, holds what a replay writes up to there."""
    import sqlite3

    with sqlite3.connect(f"file:{anew}?mode=ro", uri=True) as connection:
        connection.execute("ATTACH ? AS kept", (f"file:{kept}?mode=ro",))
        (position,) = connection.execute("SELECT value FROM kept.meta WHERE name = 'position'").fetchone()
        limit = int(position.strip("[]"))
        same = True
        for table in ("posts", "profiles"):
            columns = "at, data"
            rows = f"SELECT {columns} FROM main.{table} WHERE at < {limit}"
            kept_rows = f"SELECT {columns} FROM kept.{table} WHERE at < {limit}"
            for one, other in ((rows, kept_rows), (kept_rows, rows)):
                (n,) = connection.execute(f"SELECT count(*) FROM ({one} EXCEPT {other})").fetchone()
                if n:
                    harness.note(f"content differs: {n} rows of {table}")
                same = same and n == 0
    connection.close()
    return same


def interpreter_start_s() -> float:
    """Return what a fresh interpreter takes to import what serving needs: part of a restart without checkpoints."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import millrace.app.feed_app, millrace.app.worker"], check=True)
    return time.perf_counter() - start


def pss_mb(home: Path, n_workers: int) -> float:
    """Return the PSS of all processes of a freshly started server, in MB."""
    server = Server(home, n_workers)
    server.wait_ready(120)
    time.sleep(2.0)  # all workers, not just the first
    found = sum(pss_bytes(process.pid) for process in server.processes()) / 1e6
    harness.note(f"{n_workers} workers: {found:.0f} MB PSS")
    server.stop()
    return found


def pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def run(home: Path, *arguments: str) -> None:
    subprocess.run([*_MILLRACE, *arguments, "--home", str(home)], check=True, stdout=subprocess.DEVNULL)


def newest_checkpoint(settings: Settings) -> int:
    return total(wiring.build_checkpoints(settings).newest_position() or (0,))


def checkpoint_bytes(settings: Settings) -> int:
    newest = wiring.build_checkpoints(settings).paths()[-1]
    return sum(path.stat().st_blocks * 512 for path in newest.iterdir())


def log_end(settings: Settings) -> int:
    log = wiring.build_log(settings)
    end = total(log.end())
    log.close()
    return end


if __name__ == "__main__":
    main()
