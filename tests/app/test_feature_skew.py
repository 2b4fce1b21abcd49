"""Skew: a small home has none, and one planted difference is found, named and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.feature_skew import home_skew
from millrace.app.served_facts import missed_features
from millrace.app.settings import load_settings
from millrace.base.clock import ManualClock
from millrace.base.errors import StoreError
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import FeaturesLogged
from millrace.events.packed import pack_arrays, unpack_arrays
from millrace.mixer.feed import FeedRequest
from millrace.testing.builders import (
    NOW_MS,
    a_follow,
    a_post_created,
    a_profile_updated,
    an_engagement,
    an_impression,
)
from millrace.testing.progress import in_silence

pytestmark = [pytest.mark.timeout(600)]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
PATIENT = [("home.deadline_ms", "60000"), ("home.claim_timeout_ms", "60000"), ("home.is_strict", "true")]


class Kept:
    """Takes events and keeps them."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def log(self, event: AnyEvent) -> None:
        self.events.append(event)


class LoggingHome:
    """A home that serves pages of five posts and logs what their models read, in this process."""

    def __init__(self, folder: Path, *pairs: tuple[str, str]) -> None:
        self.settings = load_settings(make_home(folder)[0].home, None, [*PATIENT, *pairs])
        self.clock = ManualClock(NOW_MS)
        self.log = wiring.build_log(self.settings, self.clock)
        codec = wiring.build_codec(self.settings)
        self._collector = wiring.build_collector(self.settings, self.log, codec, self.clock)
        self.replica = wiring.build_replica(self.settings, self.log, clock=self.clock)
        self.replica.restore()
        self.served, self.features = Kept(), Kept()
        self.service = wiring.build_feed_service(
            self.settings, self.replica, self.served, features_logger=self.features, clock=self.clock
        )
        at_ms = NOW_MS - HOUR_MS
        posts = [a_post_created(i, 10 + i % 4, text=f"post {i} of mills", at_ms=at_ms + i) for i in range(1, 31)]
        follows = [a_follow(viewer, author, at_ms=at_ms + 40) for viewer in (20, 21) for author in (10, 11, 12)]
        self.take([*posts, *follows, a_profile_updated(20, languages=("en",), at_ms=at_ms + 41)])

    def take(self, events: Sequence[AnyEvent]) -> None:
        assert self._collector.submit(list(events)).n_refused == 0
        self.replica.catch_up()

    def page(self, viewer: int, request: str) -> None:
        """Serve a page and log it; its first post is looked at and liked."""

        async def make() -> list[str]:
            page = await self.service.home(FeedRequest(viewer_id=str(viewer), request_id=request, limit=5))
            await self.service.drain()
            return [post.post_id for post in page.posts]

        post = asyncio.run(make())[0]
        self.clock.set_ms(self.clock.now_ms() + MINUTE_MS)
        now_ms = self.clock.now_ms()
        self.take([*self.served.events, *self.features.events])
        self.served.events.clear()
        self.features.events.clear()
        self.take([an_impression(viewer, post, dwell_ms=9_000, at_ms=now_ms, event_id=f"{request}-i")])
        self.take([an_engagement(viewer, post, at_ms=now_ms, event_id=f"{request}-e")])

    def close(self) -> None:
        self.replica.close()
        self.log.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[LoggingHome]:
    made = LoggingHome(tmp_path / "home")
    yield made
    made.close()


def test_a_home_has_no_skew(home: LoggingHome) -> None:
    for number in range(4):
        home.page(20 + number % 2, f"r{number}")
    report = home_skew(home.settings, in_silence)
    assert (report.n_pages, report.n_rows_missing, report.n_differing, report.differing) == (4, 0, 0, {})
    assert report.n_rows == 20
    assert report.n_values > 20 * 60


@pytest.mark.slow
def test_over_a_million_rows_nothing_differs(tmp_path: Path) -> None:
    home = LoggingHome(tmp_path / "home", ("params.candidates_log.share", "1.0"))
    at_ms = NOW_MS - 2 * HOUR_MS
    n_posts, authors = 3_000, range(100, 300)
    home.take([a_post_created(1_000 + i, 100 + i % 200, text=f"post {i}", at_ms=at_ms + i) for i in range(n_posts)])
    home.take([a_follow(viewer, author, at_ms=at_ms + n_posts) for viewer in range(20, 60) for author in authors])
    for number in range(1_000):
        home.page(20 + number % 40, f"r{number}")
    report = home_skew(home.settings, in_silence)
    home.close()
    assert report.n_rows > 1_000_000
    assert report.n_values > 60 * report.n_rows
    assert (report.n_rows_missing, report.n_differing, report.differing) == (0, 0, {})


def test_only_the_newest_rows_are_compared_where_so_many_are_asked_for(home: LoggingHome) -> None:
    for number in range(4):
        home.page(20, f"r{number}")
    report = home_skew(home.settings, in_silence, max_rows=7)
    assert (report.n_pages, report.n_rows) == (2, 10)


def test_a_planted_difference_is_found_and_named(home: LoggingHome) -> None:
    home.page(20, "r0")
    home.features.log = lambda event: home.features.events.append(spoilt(event))  # type: ignore[method-assign]
    home.page(20, "r1")
    report = home_skew(home.settings, in_silence)
    assert report.differing == {"age": 1, "viewer:n_followers": 1}
    found = {example.feature: (example.request_id, example.row) for example in report.examples}
    assert found == {"age": ("r1", 2), "viewer:n_followers": ("r1", -1)}


def spoilt(event: AnyEvent) -> AnyEvent:
    """Change one byte of one row, and one of the viewer."""
    payload = event.payload
    assert isinstance(payload, FeaturesLogged)
    arrays = {name: np.array(array) for name, array in unpack_arrays(payload.arrays).items()}
    arrays["dense"][2, 0] ^= 1
    arrays["v_dense"][1] ^= 1
    return replace(event, payload=replace(payload, arrays=pack_arrays(arrays)))


def test_what_a_source_that_failed_would_have_written_is_not_compared_and_is_told(tmp_path: Path) -> None:
    home = LoggingHome(tmp_path / "home", ("home.is_strict", "false"), ("params.candidates_log.share", "1.0"))
    home.take([an_engagement(10, post, at_ms=NOW_MS - HOUR_MS // 2, event_id=f"proof-{post}") for post in (2, 6, 10)])
    home.page(20, "r0")
    (source,) = (stage for stage in home.service.pipeline.stages.sources if stage.name == "second_degree")
    index, source._index = source._index, None  # type: ignore[attr-defined]
    home.page(20, "r1")
    source._index = index  # type: ignore[attr-defined]
    home.page(21, "r2")
    report = home_skew(home.settings, in_silence)
    home.close()
    assert (report.n_pages, report.n_differing, report.differing) == (6, 0, {})
    assert (report.n_incomplete, report.not_run) == (2, {"source second_degree": 2})  # the page, and its candidates
    assert report.n_pages_left_out == 0


def test_a_page_is_replayed_with_its_own_params(tmp_path: Path) -> None:
    narrow = LoggingHome(tmp_path / "home", ("params.second_degree.window_h", "0.1"))
    narrow.take(
        [an_engagement(10, post, at_ms=NOW_MS - HOUR_MS // 2, event_id=f"proof-{post}") for post in range(1, 31)]
    )
    narrow.page(20, "r0")
    report = home_skew(load_settings(tmp_path / "home", None, PATIENT), in_silence)  # the config has changed since
    narrow.close()
    assert (report.n_pages, report.n_differing, report.n_incomplete) == (1, 0, 0)


def test_pages_that_are_not_told_as_served_are_left_out(home: LoggingHome) -> None:
    home.page(20, "r0")
    home.served.log = lambda event: None  # type: ignore[method-assign]
    home.page(20, "r1")
    report = home_skew(home.settings, in_silence)
    assert (report.n_pages, report.n_pages_left_out, report.n_differing) == (1, 1, 0)


def test_whoever_reads_what_was_not_there_has_written_nothing_either(home: LoggingHome) -> None:
    stages, actions = home.service.pipeline.stages, wiring.build_actions(home.settings)
    assert missed_features(stages, [("source", "in_network")], actions) == frozenset()
    assert missed_features(stages, [("query hydrator", "follows")], actions) == {"in_network", "mutual", "n_proofs"}
    counts = missed_features(stages, [("hydrator", "counts")], actions)
    assert counts is not None
    assert {"post:like", "author:impression"} <= counts
    for whole in (("query hydrator", "viewer_inputs"), ("hydrator", "slate_inputs"), ("hydrator", "core")):
        assert missed_features(stages, [whole], actions) is None


def test_a_home_that_logged_nothing_says_so(home: LoggingHome) -> None:
    with pytest.raises(StoreError, match="logs_features"):
        home_skew(home.settings, in_silence)
