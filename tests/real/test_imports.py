"""The public data sets through the importers, the door, the real stores and the real home feed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from millrace.events.feed_events import Engagement, Impression, Served
from millrace.events.importers import IMPORTERS, ImportOptions, ImportReport

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

NOW_MS = 1_795_000_000_000
SPAN_MS = 48 * 3_600_000
PAGE_SIZE = 35

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


@pytest.fixture(scope="module", params=list(IMPORTERS))
def imported(request: pytest.FixtureRequest, data_folder: Path, feed_home: Any) -> Any:
    name = request.param
    folder = request.getfixturevalue("mind_share") if name == "mind" else data_folder / name
    if not folder.is_dir():
        pytest.skip(f"MILLRACE_DATA holds no {name}")
    report = ImportReport()
    events = IMPORTERS[name](folder, ImportOptions(now_ms=NOW_MS, span_ms=SPAN_MS), report)
    return name, report, feed_home(events, NOW_MS)


def viewers(imported: Any) -> list[str]:
    name, _, home = imported
    known = home.rules.follows.keys() | home.rules.seen.keys()
    everybody = sorted(viewer for viewer in known if viewer.startswith(VIEWER_PREFIX[name]))
    return everybody[:: max(1, len(everybody) // N_VIEWERS[name])]


def test_everything_readable_is_taken_in(imported: Any) -> None:
    name, report, home = imported
    assert report.n_events_by_type["PostCreated"] == N_POSTS[name]
    assert report.n_unreadable < 0.01 * report.n_rows
    assert home.refusals == []
    assert home.n_events == report.n_events


def test_thousands_of_posts_are_live(imported: Any) -> None:
    name, _, home = imported
    assert home.state.posts.n_posts >= MIN_LIVE[name]
    assert home.rules.n_live() >= home.state.posts.n_posts


def test_hundreds_of_viewers_get_full_first_pages_that_keep_every_rule(imported: Any) -> None:
    name, _, home = imported
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
    name, _, home = imported
    chosen = viewers(imported)[:50]
    pages = {frozenset(post.post_id for post in home.page(viewer).posts) for viewer in chosen}
    assert len(pages) > MIN_UNLIKE_FRAC[name] * len(chosen)


def test_a_newcomer_whom_nobody_knows_gets_a_full_page_too(imported: Any) -> None:
    _, _, home = imported
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
