"""Real posts and a real social graph in one home: the rules hold on every page while the world goes on.

Composite: communities of reddit-posts and artists of lastfm-2k are authors; the listeners of lastfm-2k keep their real
friends and tastes, and follow some communities that a seed chose.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.events.envelope import AnyEvent
from millrace.events.importers import IMPORTERS, ImportOptions, ImportReport
from millrace.mixer.feed import FeedPost, FeedResponse
from millrace.testing.builders import (
    a_block,
    a_follow,
    a_mute,
    a_post_created,
    a_post_deleted,
    an_engagement,
    an_impression,
)

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

NOW_MS = 1_795_000_000_000
SPAN_MS = 48 * 3_600_000
N_VIEWERS = 1_000
N_COMMUNITIES = 4
EVENTS_EVERY = 20
PAGE_SIZE = 35


def both(data_folder: Path) -> Iterator[AnyEvent]:
    """Yield the events of both data sets, oldest first."""
    options = ImportOptions(now_ms=NOW_MS, span_ms=SPAN_MS)
    streams = [IMPORTERS[name](data_folder / name, options, ImportReport()) for name in ("reddit-posts", "lastfm-2k")]
    return heapq.merge(*streams, key=lambda event: event.event_time_ms)


@pytest.fixture(scope="module")
def home(data_folder: Path, feed_home: Any) -> Any:
    for name in ("reddit-posts", "lastfm-2k"):
        if not (data_folder / name).is_dir():
            pytest.skip(f"MILLRACE_DATA holds no {name}")
    home = feed_home(both(data_folder), NOW_MS)
    communities = sorted({author for author in home.rules.author.values() if author.startswith("r/")})
    listeners = sorted(viewer for viewer in home.rules.follows if viewer.startswith("listener-"))
    assert len(communities) > 50, communities[:5]
    rng = np.random.default_rng(7)
    home.hear(
        a_follow(listener, communities[place], at_ms=NOW_MS)
        for listener in listeners
        for place in rng.choice(len(communities), N_COMMUNITIES, replace=False).tolist()
    )
    return home


def viewers(home: Any) -> list[str]:
    listeners = sorted(viewer for viewer in home.rules.follows if viewer.startswith("listener-"))
    readers = sorted(viewer for viewer in home.rules.follows if viewer.startswith("reader-"))
    chosen = [*readers, *listeners]
    return chosen[:: max(1, len(chosen) // N_VIEWERS)][:N_VIEWERS]


def what_goes_on(number: int, viewer: str, page: FeedResponse, rng: np.random.Generator) -> Iterator[AnyEvent]:
    """Yield what happens after a page: it is read, liked in part, somebody is muted, posts come and go."""
    for post in page.posts[:20]:
        yield an_impression(viewer, post.post_id, dwell_ms=int(rng.integers(20_000)), at_ms=NOW_MS)
    for post in page.posts[:20:5]:
        yield an_engagement(viewer, post.post_id, "like", at_ms=NOW_MS)
    author = page.posts[0].author.user_id
    yield a_post_created(f"new-{number}", author, text=f"what came in between, {number}", at_ms=NOW_MS)
    yield a_post_deleted(page.posts[1].post_id, at_ms=NOW_MS)
    yield a_mute(viewer, page.posts[2].author.user_id, at_ms=NOW_MS)
    yield a_block(page.posts[3].author.user_id, viewer, at_ms=NOW_MS)


def identity(post: FeedPost) -> str:
    return post.parent_id if post.kind == "repost" and post.parent_id else post.post_id


def test_the_rules_hold_on_every_page_of_a_thousand_viewers_while_the_world_goes_on(home: Any) -> None:
    rng = np.random.default_rng(11)
    chosen = viewers(home)
    assert len(chosen) == N_VIEWERS
    shown: dict[str, set[str]] = defaultdict(set)
    problems: dict[str, list[str]] = {}
    n_posts: Counter[int] = Counter()

    def look(viewer: str) -> FeedResponse:
        page: FeedResponse = home.page(viewer)
        broken = home.rules.broken(page)
        identities = [identity(post) for post in page.posts]
        broken += [f"{post} came before" for post in identities if post in shown[viewer]]
        shown[viewer].update(identities)
        if page.degraded:
            broken.append("degraded")
        if broken:
            problems.setdefault(viewer, []).extend(broken)
        n_posts[len(page.posts)] += 1
        return page

    for number, viewer in enumerate(chosen):
        page = look(viewer)
        assert len(page.posts) == PAGE_SIZE, viewer
        if number % EVENTS_EVERY == 0:
            home.hear(what_goes_on(number, viewer, page, rng))
            look(viewer)
    assert problems == {}
    assert n_posts[PAGE_SIZE] > 0.99 * sum(n_posts.values())
