"""The demo's world in the real stores, read through the real home feed."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.simulator.config import WorldConfig
from millrace.simulator.world import simulate_history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NOW_MS = 1_795_000_000_000
N_VIEWERS = 300
SEVERAL = 5


@pytest.fixture(scope="module")
def home(feed_home: Any) -> Any:
    return feed_home(simulate_history(WorldConfig(states_topics=True), NOW_MS), NOW_MS)


def test_the_demo_fills_the_first_pages_of_its_people_and_keeps_every_rule(home: Any) -> None:
    problems: dict[str, list[str]] = {}
    n_personal = n_several = n_pages = n_followed = 0
    by_viewer = sorted(home.rules.seen, key=lambda viewer: (-len(home.rules.seen[viewer]), viewer))
    for viewer in by_viewer[:: len(by_viewer) // N_VIEWERS]:
        page = home.page(viewer)
        broken = home.rules.broken(page)
        if len(page.posts) != 35:
            broken.append(f"{len(page.posts)} posts")
        if broken:
            problems[viewer] = broken
        if len(home.rules.follows[viewer]) >= SEVERAL:  # some people follow nobody, or hardly anybody
            n_several += 1
            n_personal += any(post.author.user_id in home.rules.follows[viewer] for post in page.posts)
        n_followed += sum(post.author.user_id in home.rules.follows[viewer] for post in page.posts)
        n_pages += 1
    assert problems == {}
    assert n_pages >= N_VIEWERS
    assert n_several > 0.7 * n_pages
    assert n_personal > 0.95 * n_several  # somebody whom the viewer follows is on nearly every page
    # A mixture: neither a list of follows nor a list of hits. Half of the people follow fewer than eighteen.
    assert 0.2 < n_followed / (35 * n_pages) < 0.8, n_followed / (35 * n_pages)


def test_the_demo_has_thousands_of_live_posts(home: Any) -> None:
    assert home.refusals == []
    assert home.state.posts.n_posts > 8_000
