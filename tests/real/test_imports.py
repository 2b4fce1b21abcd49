"""The public data sets through the importers, the door, the real stores and the real home feed.

Three of them have a home each. Posts of reddit-posts and the social graph of lastfm-2k share one, which is composite:
communities and artists are authors; the listeners of lastfm-2k keep their real friends and tastes, and follow some
communities that a seed chose. In it the rules are held to while the world goes on.
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
from millrace.events.feed_events import Engagement, Impression, Served
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
PAGE_SIZE = 35
COMPOSITE = ("reddit-posts", "lastfm-2k")
N_COMPOSITE_VIEWERS = 1_000
N_COMMUNITIES = 4
EVENTS_EVERY = 20

VIEWER_PREFIX = {
    "reddit-posts": "reader-",
    "lastfm-2k": "listener-",
    "mind": "U",
    "ml-100k": "viewer-",
    "yelp-social": "user-",
}
N_POSTS = {"reddit-posts": 55_800, "lastfm-2k": 17_632, "mind": 18_911, "ml-100k": 1_682, "yelp-social": 37_378}
MIN_LIVE = {"reddit-posts": 4_000, "lastfm-2k": 4_000, "mind": 16_000, "ml-100k": 1_400, "yelp-social": 30_000}
N_VIEWERS = {"reddit-posts": 300, "lastfm-2k": 300, "mind": 100, "ml-100k": 100, "yelp-social": 100}
MIN_UNLIKE_FRAC = {"reddit-posts": 0.9, "lastfm-2k": 0.9, "mind": 0.2, "ml-100k": 0.05, "yelp-social": 0.6}
"""Where nobody follows anybody, pages differ by what their viewers have seen."""


@pytest.fixture(scope="module")
def composite(data_folder: Path, feed_home: Any) -> Any:
    """Return the reports of both data sets, and the home that they share."""
    for name in COMPOSITE:
        if not (data_folder / name).is_dir():
            pytest.skip(f"MILLRACE_DATA holds no {name}")
    options = ImportOptions(now_ms=NOW_MS, span_ms=SPAN_MS)
    reports = {name: ImportReport() for name in COMPOSITE}
    streams = [IMPORTERS[name](data_folder / name, options, report) for name, report in reports.items()]
    home = feed_home(heapq.merge(*streams, key=lambda event: event.event_time_ms), NOW_MS)
    communities = sorted({author for author in home.rules.author.values() if author.startswith("r/")})
    listeners = sorted(viewer for viewer in home.rules.follows if viewer.startswith("listener-"))
    assert len(communities) > 50, communities[:5]
    rng = np.random.default_rng(7)
    home.hear(
        a_follow(listener, communities[place], at_ms=NOW_MS)
        for listener in listeners
        for place in rng.choice(len(communities), N_COMMUNITIES, replace=False).tolist()
    )
    return reports, home


@pytest.fixture(scope="module", params=list(IMPORTERS))
def imported(request: pytest.FixtureRequest, data_folder: Path, feed_home: Any) -> Any:
    """Return a data set's name, the report of its import, the home that it is in, and the number of events in that."""
    name = request.param
    if name in COMPOSITE:
        reports, home = request.getfixturevalue("composite")
        return name, reports[name], home, sum(report.n_events for report in reports.values())
    folder = request.getfixturevalue("mind_share") if name == "mind" else data_folder / name
    if not folder.is_dir():
        pytest.skip(f"MILLRACE_DATA holds no {name}")
    report = ImportReport()
    home = feed_home(IMPORTERS[name](folder, ImportOptions(now_ms=NOW_MS, span_ms=SPAN_MS), report), NOW_MS)
    return name, report, home, report.n_events


def viewers(imported: Any) -> list[str]:
    name, _, home, _ = imported
    known = home.rules.follows.keys() | home.rules.seen.keys()
    everybody = sorted(viewer for viewer in known if viewer.startswith(VIEWER_PREFIX[name]))
    return everybody[:: max(1, len(everybody) // N_VIEWERS[name])]


def test_everything_readable_is_taken_in(imported: Any) -> None:
    name, report, home, n_events = imported
    assert report.n_events_by_type["PostCreated"] == N_POSTS[name]
    assert report.n_unreadable < 0.01 * report.n_rows
    assert home.refusals == []
    assert home.n_events == n_events


def test_thousands_of_posts_are_live(imported: Any) -> None:
    name, _, home, _ = imported
    assert home.state.posts.n_posts >= MIN_LIVE[name]
    assert home.rules.n_live() >= home.state.posts.n_posts


def test_hundreds_of_viewers_get_full_first_pages_that_keep_every_rule(imported: Any) -> None:
    name, _, home, _ = imported
    chosen = viewers(imported)
    assert len(chosen) >= N_VIEWERS[name]
    problems: dict[str, list[str]] = {}
    for viewer in chosen:
        page = home.page(viewer)
        broken = home.rules.broken(page)
        if len(page.posts) != PAGE_SIZE:
            broken.append(f"{len(page.posts)} posts")
        if page.degraded:
            broken.append("degraded")
        if broken:
            problems[viewer] = broken
    assert problems == {}


def test_nearly_every_page_is_unlike_every_other(imported: Any) -> None:
    name, _, home, _ = imported
    chosen = viewers(imported)[:50]
    pages = {frozenset(post.post_id for post in home.page(viewer).posts) for viewer in chosen}
    assert len(pages) > MIN_UNLIKE_FRAC[name] * len(chosen)


def test_a_newcomer_whom_nobody_knows_gets_a_full_page_too(imported: Any) -> None:
    _, _, home, _ = imported
    page = home.page("nobody-yet")
    assert len(page.posts) == PAGE_SIZE
    assert home.rules.broken(page) == []


def test_impressions_with_non_clicks_arrive_as_served_impression_and_engagement(data_folder: Path) -> None:
    folder = data_folder / "mind-subset"
    if not folder.is_dir():
        pytest.skip("MILLRACE_DATA holds no mind-subset")
    report = ImportReport()
    logged: Counter[str] = Counter()
    n_items = n_clicked = 0
    of_history: Counter[str] = Counter()
    for event in IMPORTERS["mind"](folder, ImportOptions(now_ms=NOW_MS), report):
        payload = event.payload
        if isinstance(payload, Served):
            n_items += len(payload.items)
            logged["Served"] += 1
        elif isinstance(payload, Impression | Engagement):
            (logged if payload.request_id else of_history)[type(payload).__name__] += 1
            n_clicked += isinstance(payload, Impression) and payload.request_id is not None and payload.dwell_ms > 6_000
    assert logged == {"Served": 5_000, "Impression": 189_359, "Engagement": 7_542}
    assert (n_items, n_clicked) == (189_359, 7_542)
    assert of_history["Impression"] == of_history["Engagement"] > 130_000
    assert report.n_unreadable == 0
    assert report.n_rows == report.n_rows_total == 7_000


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


def test_the_rules_hold_on_every_page_of_a_thousand_viewers_while_the_world_goes_on(composite: Any) -> None:
    _, home = composite
    rng = np.random.default_rng(11)
    readers, listeners = (
        sorted(viewer for viewer in home.rules.follows if viewer.startswith(VIEWER_PREFIX[name])) for name in COMPOSITE
    )
    everybody = [*readers, *listeners]
    chosen = everybody[:: max(1, len(everybody) // N_COMPOSITE_VIEWERS)][:N_COMPOSITE_VIEWERS]
    assert len(chosen) == N_COMPOSITE_VIEWERS
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
