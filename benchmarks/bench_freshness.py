"""How long after an action of a viewer that viewer's pages are made with it, over HTTP: event to changed page.

A viewer of whom nothing is known acts once: follows an author, likes a post, or blocks an author. From the moment in
which the event is sent, pages are asked for one after the other, until one is different *because of it*: it has posts
that the in-network source found (nobody was followed before), posts that were found by what was liked (nothing was), or
posts of the blocked author were taken out of it (``debug_info`` tells). The time ends when that page has come. So it is
what the viewer sees: the door, the log, a worker's fold, and the page itself, which is there in ``page_ms`` alone.
``first_page_share`` says how often the first page that was asked for after the answer to the event was that page.

Events and pages go over connections of their own; the workers that answer them are the kernel's choice. ``equal`` is
whether each event changed a page, and no page before it showed that change.

Usage: python benchmarks/bench_freshness.py [--rounds 100] [--models none] [--posts 4000] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness import emit, note, percentile_ms
from millrace.app.commands.init import make_home
from millrace.testing.server_process import Connection, ServerProcess
from untrained_models import let_untrained_serve

LIMIT: Final = 10
WANTED_MS: Final = 1_000.0
PATIENCE_S: Final = 20.0
N_AUTHORS: Final = 60
_BATCH: Final = 1_000
_BY_LIKES: Final = frozenset({"similar_content", "co_engagement", "similar_viewers"})

Page = Mapping[str, Any]
Event = Mapping[str, Any]


def follow(viewer: str, post: Page) -> Event:
    """Return the event that a viewer follows the author of a post."""
    author = post["author"]["user_id"]
    return {"payload": {"type": "FollowChanged", "follower_id": viewer, "followee_id": author}}


def like(viewer: str, post: Page) -> Event:
    """Return the event that a viewer likes a post."""
    payload = {"type": "Engagement", "viewer_id": viewer, "post_id": post["post_id"], "action": "like"}
    return {"payload": payload}


def block(viewer: str, post: Page) -> Event:
    """Return the event that a viewer blocks the author of a post."""
    author = post["author"]["user_id"]
    return {"payload": {"type": "BlockChanged", "blocker_id": viewer, "blocked_id": author}}


def has_in_network(page: Page) -> bool:
    """Whether a page has a post by somebody the viewer follows."""
    return any("in_network" in post["sources"] for post in page["posts"])


def has_liked(page: Page) -> bool:
    """Whether a page has a post that was found by what the viewer liked."""
    return any(not _BY_LIKES.isdisjoint(post["sources"]) for post in page["posts"])


def drops_blocked(page: Page) -> bool:
    """Whether posts of a blocked author were taken out."""
    return bool(page["debug_info"]["dropped"].get("blocked_author"))


KINDS: Final[dict[str, tuple[Callable[[str, Page], Event], Callable[[Page], bool]]]] = {
    "follow": (follow, has_in_network),
    "like": (like, has_liked),
    "block": (block, drops_blocked),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="of each kind of action")
    parser.add_argument("--models", default="none", help="preset of the models that serve, such as nano; or none")
    parser.add_argument("--posts", type=int, default=4_000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-freshness-") as folder:
        bench(Path(folder), args)


def bench(folder: Path, args: argparse.Namespace) -> None:
    settings, _ = make_home(folder / "home")
    if args.models != "none":
        note("exporting models of first weights")
        let_untrained_serve(settings, folder / "models", args.models)
    # A page that a busy machine makes late is a page all the same.
    overrides = ("home.deadline_ms=30000", "home.claim_timeout_ms=30000", "near_line.is_on=true", "guards.is_on=true")
    server = ServerProcess(settings.home, n_workers=args.workers, overrides=overrides)
    took_s: dict[str, list[float]] = {kind: [] for kind in KINDS}
    n_pages: list[int] = []
    pages_s: list[float] = []
    n_wrong = 0
    try:
        server.wait_ready(900)
        send_posts(server, args.posts)
        with Connection(server) as door, Connection(server) as reader:
            for number in range(-3, args.rounds):
                for kind, (act, is_changed) in KINDS.items():
                    n_before = len(pages_s)
                    found = one_round(door, reader, f"{kind}-{number}", act, is_changed, pages_s)
                    n_wrong += found is None
                    if number >= 0 and found is not None:
                        took_s[kind].append(found)
                        n_pages.append(len(pages_s) - n_before)
    finally:
        server.stop()
    seconds = np.array([value for values in took_s.values() for value in values])
    emit(
        "freshness",
        equal=n_wrong == 0,
        ratio={"wanted": WANTED_MS / percentile_ms(seconds, 99)},
        p50_ms=percentile_ms(seconds, 50),
        p99_ms=percentile_ms(seconds, 99),
        slowest_ms=float(seconds.max()) * 1e3,
        p99_ms_by_kind={kind: percentile_ms(np.array(values), 99) for kind, values in took_s.items()},
        page_ms=percentile_ms(np.array(pages_s), 50),
        first_page_share=float((np.array(n_pages) == 1).mean()),
        load=os.getloadavg()[0],
        n=len(seconds),
        n_posts=args.posts,
        n_workers=args.workers,
        models=args.models,
    )


def one_round(
    door: Connection,
    reader: Connection,
    viewer: str,
    act: Callable[[str, Page], Event],
    is_changed: Callable[[Page], bool],
    pages_s: list[float],
) -> float | None:
    """Return the seconds from an event to the end of the first page that it changed; None if none did, or one before.

    ``pages_s`` is added to: what each page took by itself.
    """
    path = f"/api/v1/timeline/home?viewer={viewer}&limit={LIMIT}&debug=true"
    before = reader.get(path)
    if is_changed(before) or not before["posts"]:
        return None
    event = act(viewer, before["posts"][0])
    began_s = time.perf_counter()
    door.get("/api/v1/events", [event])
    while True:
        asked_s = time.perf_counter()
        page = reader.get(path)
        ended_s = time.perf_counter()
        pages_s.append(ended_s - asked_s)
        if is_changed(page):
            return ended_s - began_s
        if ended_s - began_s > PATIENCE_S:
            return None


def send_posts(server: ServerProcess, n: int) -> None:
    """Let some authors post about a dozen things."""
    for first in range(0, n, _BATCH):
        events = [
            {
                "payload": {
                    "type": "PostCreated",
                    "post_id": f"p{i}",
                    "author_id": f"a{i % N_AUTHORS}",
                    "text": f"thing{i % 12} of the mill, wheel{i % 12} and stream{i % 12}, for the {i}th time",
                }
            }
            for i in range(first, min(first + _BATCH, n))
        ]
        accepted = json.loads(server.get("/api/v1/events", json.dumps(events).encode()))["n_accepted"]
        if accepted != len(events):
            raise SystemExit(f"{len(events) - accepted} posts were not taken")


if __name__ == "__main__":
    main()
