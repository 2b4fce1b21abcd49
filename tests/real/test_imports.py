"""Both public data sets through the importers, the door, the real stores and the real home feed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millrace.events.importers import IMPORTERS, ImportOptions, ImportReport

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

NOW_MS = 1_795_000_000_000
SPAN_MS = 48 * 3_600_000
PAGE_SIZE = 35
MIN_LIVE = 4_000
N_VIEWERS = 300

VIEWER_PREFIX = {"reddit-posts": "reader-", "lastfm-2k": "listener-"}
N_POSTS = {"reddit-posts": 55_800, "lastfm-2k": 17_632}


@pytest.fixture(scope="module", params=list(IMPORTERS))
def imported(request: pytest.FixtureRequest, data_folder: Path, feed_home: Any) -> Any:
    name = request.param
    folder = data_folder / name
    if not folder.is_dir():
        pytest.skip(f"MILLRACE_DATA holds no {name}")
    report = ImportReport()
    events = IMPORTERS[name](folder, ImportOptions(now_ms=NOW_MS, span_ms=SPAN_MS), report)
    return name, report, feed_home(events, NOW_MS)


def viewers(imported: Any) -> list[str]:
    name, _, home = imported
    everybody = sorted(viewer for viewer in home.rules.follows if viewer.startswith(VIEWER_PREFIX[name]))
    return everybody[:: max(1, len(everybody) // N_VIEWERS)]


def test_everything_readable_is_taken_in(imported: Any) -> None:
    name, report, home = imported
    assert report.n_events_by_type["PostCreated"] == N_POSTS[name]
    assert report.n_unreadable < 0.01 * report.n_rows
    assert home.refusals == []
    assert home.n_events == report.n_events


def test_thousands_of_posts_are_live(imported: Any) -> None:
    _, _, home = imported
    assert home.state.posts.n_posts >= MIN_LIVE
    assert home.rules.n_live() >= home.state.posts.n_posts


def test_hundreds_of_viewers_get_full_first_pages_that_keep_every_rule(imported: Any) -> None:
    _, _, home = imported
    chosen = viewers(imported)
    assert len(chosen) >= N_VIEWERS
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
    _, _, home = imported
    chosen = viewers(imported)[:50]
    pages = {frozenset(post.post_id for post in home.page(viewer).posts) for viewer in chosen}
    assert len(pages) > 0.9 * len(chosen)


def test_a_newcomer_whom_nobody_knows_gets_a_full_page_too(imported: Any) -> None:
    _, _, home = imported
    page = home.page("nobody-yet")
    assert len(page.posts) == PAGE_SIZE
    assert home.rules.broken(page) == []
