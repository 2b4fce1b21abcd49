"""How long a promotion takes until a running server's pages are made with it, while it is asked for pages all the time.

Two sets of models of first weights (ranker, retrieval, pre-ranker) are promoted in turns. ``first_s`` is the time from
the beginning of `promote` to the end of the first page that the new ranker made, ``all_s`` to the end of the last page
that the old one did, in any worker. Looking at the pointer (four times a second), verifying checksums, loading and
warming up are in it, beside pages at a steady rate and whatever else the machine does: ``load`` tells of that, and
``work_cpu_s`` what a swap takes of one core, measured in this process alone.

``equal`` is whether every request got a full page, no worker went back to the old version, and no component failed.

Usage: python benchmarks/bench_swap.py [--rounds 7] [--models small] [--posts 5000] [--rate 20]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from harness import emit, note
from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.model_publishing import promote
from millrace.app.settings import Settings
from millrace.registry.manifest import Kind
from millrace.testing.page_load import AskedPage, PageLoad
from millrace.testing.server_process import ServerProcess, until
from untrained_models import publish_untrained

WANTED_S: Final = 1.2
PATIENCE_S: Final = 120.0
N_WORKERS: Final = 2
N_CONNECTIONS: Final = 4
LIMIT: Final = 10
_BATCH: Final = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", default="small", help="preset of the models")
    parser.add_argument("--posts", type=int, default=5_000)
    parser.add_argument("--rate", type=float, default=20.0, help="pages a second")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-swap-") as folder:
        bench(Path(folder), args)


def bench(folder: Path, args: argparse.Namespace) -> None:
    settings, _ = make_home(folder / "home")
    note("exporting two sets of models")
    sets = [publish_untrained(settings, folder / f"models{seed}", args.models, seed) for seed in (1, 2)]
    promote(settings, sets[0], "bench")
    work_cpu_s = swap_work_s(settings, sets)
    # Late pages are pages all the same: what is timed is the swap, on whatever machine.
    overrides = ("home.deadline_ms=30000", "home.claim_timeout_ms=30000")
    server = ServerProcess(settings.home, n_workers=N_WORKERS, overrides=overrides)
    try:
        server.wait_ready(600)
        send_posts(server, args.posts)
        with PageLoad(server, N_CONNECTIONS, LIMIT, args.rate) as load:
            until(lambda: load.serves(sets[0]["ranker"], 5), PATIENCE_S)
            began_s = time.perf_counter()
            until(lambda: time.perf_counter() - began_s > 5.0, PATIENCE_S)
            quiet_s = [page.ended_s - page.began_s for page in load.pages if page.began_s > began_s]
            swaps = [swap(settings, load, sets[number % 2]) for number in range(1, args.rounds + 1)]
    finally:
        server.stop()
    first_s, all_s = (np.array(column) for column in list(zip(*swaps, strict=True))[:2])
    swapping_s = np.concatenate([page_s for _, _, page_s in swaps])
    pages = [page for page in load.pages if page.version or page.problem]
    n_failed = sum(bool(page.problem) or page.n_posts < LIMIT for page in pages if page.began_s > began_s)
    emit(
        "swap",
        equal=n_failed == 0 and not any(goes_back(column) for column in load.pages_by_connection),
        ratio={"wanted": WANTED_S / float(np.median(first_s))},
        first_s=float(np.median(first_s)),
        first_slowest_s=float(first_s.max()),
        all_s=float(np.median(all_s)),
        all_slowest_s=float(all_s.max()),
        page_ms=float(np.median(quiet_s)) * 1e3,
        page_p99_ms=float(np.quantile(quiet_s, 0.99)) * 1e3,
        page_p99_while_swapping_ms=float(np.quantile(swapping_s, 0.99)) * 1e3,
        page_slowest_while_swapping_ms=float(swapping_s.max()) * 1e3,
        work_cpu_s=work_cpu_s,
        load=os.getloadavg()[0],
        n_swaps=args.rounds,
        n_pages=len(pages),
        n_failed=n_failed,
        n_workers=N_WORKERS,
        rate_per_s=args.rate,
        models=args.models,
    )


def swap_work_s(settings: Settings, sets: list[dict[Kind, str]]) -> float:
    """Return the CPU seconds that following a promotion takes, compiled code and all libraries being there."""
    live, took_s = wiring.build_live_models(settings), []
    for number in range(5):
        promote(settings, sets[number % 2], "bench")
        began_s = time.process_time()
        live.poll()
        took_s.append(time.process_time() - began_s)
    live.close()
    promote(settings, sets[0], "bench")
    return float(np.median(took_s))


def swap(settings: Settings, load: PageLoad, versions: Mapping[Kind, str]) -> tuple[float, float, list[float]]:
    """Promote; return the seconds to the first new page, to the last old one, and of each page meanwhile."""
    new = versions["ranker"]
    promoted_s = time.perf_counter()
    promote(settings, versions, "bench")
    until(lambda: load.serves(new, 3), PATIENCE_S)
    since: list[AskedPage] = [page for page in load.pages if page.ended_s > promoted_s]
    first_s = min(page.ended_s for page in since if page.version == new) - promoted_s
    all_s = max((page.ended_s for page in since if page.version != new), default=promoted_s) - promoted_s
    note(f"first page after {first_s:.2f} s, last of the old after {all_s:.2f} s")
    return first_s, all_s, [page.ended_s - page.began_s for page in since if page.began_s < promoted_s + all_s]


def goes_back(pages: list[AskedPage]) -> bool:
    """Whether a connection's worker left a version within a page of coming to it."""
    versions = [page.version for page in pages]
    return any(a == c != b for a, b, c in zip(versions, versions[1:], versions[2:], strict=False))


def send_posts(server: ServerProcess, n: int) -> None:
    """Let a few hundred authors post."""
    for first in range(0, n, _BATCH):
        events = [
            {
                "payload": {
                    "type": "PostCreated",
                    "post_id": f"p{i}",
                    "author_id": f"a{i % 300}",
                    "text": f"the wheel number {i} turns",
                }
            }
            for i in range(first, min(first + _BATCH, n))
        ]
        accepted = json.loads(server.get("/api/v1/events", json.dumps(events).encode()))["n_accepted"]
        if accepted != len(events):
            raise SystemExit(f"{len(events) - accepted} posts were not taken")


if __name__ == "__main__":
    main()
