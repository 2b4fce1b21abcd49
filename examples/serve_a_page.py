"""Serve one page in one process: events through the door, folded into state, ranked, printed with why.

    python examples/serve_a_page.py

Everything is the real thing, built by `millrace.app.wiring` over a home in a temporary folder: the SQLite log, every
store, the home pipeline. A server does the same with more processes.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.app import wiring
from millrace.app.settings import Settings, with_patience
from millrace.mixer.feed import FeedRequest

if TYPE_CHECKING:
    from millrace.mixer.feed import FeedPost, FeedResponse

PAYLOADS: list[dict[str, Any]] = [
    {"type": "ProfileUpdated", "user_id": "ada", "name": "Ada"},
    {"type": "ProfileUpdated", "user_id": "bo", "name": "Bo"},
    {"type": "ProfileUpdated", "user_id": "cy", "name": "Cy"},
    {"type": "FollowChanged", "follower_id": "vera", "followee_id": "ada"},
    {"type": "BlockChanged", "blocker_id": "vera", "blocked_id": "mallory"},
    {"type": "PostCreated", "post_id": "p1", "author_id": "ada", "text": "The wheel turns."},
    {"type": "PostCreated", "post_id": "p2", "author_id": "bo", "text": "High water today."},
    {"type": "PostCreated", "post_id": "p3", "author_id": "cy", "text": "Flour for everybody."},
    {"type": "PostCreated", "post_id": "p4", "author_id": "mallory", "text": "Buy my dam."},
    {"type": "Engagement", "viewer_id": "ada", "post_id": "p2", "action": "like"},
    {"type": "Engagement", "viewer_id": "bo", "post_id": "p3", "action": "reply"},
    {"type": "Engagement", "viewer_id": "bo", "post_id": "p4", "action": "repost"},
]


def serve(home: Path, viewer_id: str) -> FeedResponse:
    """Take the events in, fold them, and return a page for one viewer."""
    settings = with_patience(Settings(home), deadline_ms=20_000)  # kernels may have to be compiled
    log = wiring.build_log(settings)
    door = wiring.build_collector(settings, log, wiring.build_codec(settings))
    receipt = door.submit_json([json.dumps({"payload": payload}).encode() for payload in PAYLOADS], source="example")
    print(f"{receipt.n_accepted} events accepted, {receipt.n_refused} refused")

    replica = wiring.build_replica(settings, log)
    print(f"{replica.catch_up()} records folded\n")

    service = wiring.build_feed_service(settings, replica)
    page = asyncio.run(service.home(FeedRequest(viewer_id=viewer_id, request_id="example-1", debug=True)))
    replica.close()
    log.close()
    return page


def show(post: FeedPost) -> None:
    """Print a post, why it is here, and how its score came about."""
    print(f"{post.author.name}: {post.text}")
    print(f"    {post.reason}   (found by {', '.join(post.sources)})")
    why = post.why
    largest = sorted(why.actions.items(), key=lambda item: -abs(item[1].contribution))[:4]
    for name, action in largest:
        print(f"    {action.probability:9.5f} × {action.weight:8.3f} = {action.contribution:+.5f}  {name}")
    print(f"    sum over {len(why.actions)} heads that weigh something {why.value:+.5f}, offset {why.offset_value:.5f}")
    for step in why.steps:
        sign = "×" if step.kind == "multiply" else "+"
        print(f"    {sign} {step.name} {step.amount:.3f}")
    print(f"    score {why.score:.5f}\n")


def main() -> None:
    """Print Vera's page."""
    with tempfile.TemporaryDirectory() as folder:
        page = serve(Path(folder), "vera")
    for post in page.posts:
        show(post)
    if page.debug_info is not None:
        print(f"{page.debug_info.candidate_count} candidates, dropped: {page.debug_info.dropped}")


if __name__ == "__main__":
    main()
