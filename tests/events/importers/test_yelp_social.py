from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import pytest

from millrace.base.errors import SourceDataError
from millrace.events.codec import EventCodec
from millrace.events.content_events import PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.importers import IMPORTERS, ImportOptions, ImportReport
from millrace.events.registry import EventRegistry
from millrace.events.user_events import FollowChanged

FILES = Path(__file__).parent / "files" / "yelp"
NOW_MS = 1_800_000_000_000
SPAN_MS = 48 * 3_600_000
CODEC = EventCodec(EventRegistry())
LIKED = {(1, 10), (2, 10), (3, 10), (2, 11), (3, 11)}
read = IMPORTERS["yelp-social"]


def options(**values: Any) -> ImportOptions:
    return ImportOptions(**{"now_ms": NOW_MS, "span_ms": SPAN_MS} | values)


def of(events: list[AnyEvent], kind: type) -> list[Any]:
    return [event.payload for event in events if type(event.payload) is kind]


@pytest.fixture(scope="module")
def events() -> list[AnyEvent]:
    return list(read(FILES, options(), None))


def test_links_are_follows_in_their_direction_and_nobody_follows_themselves(events: list[AnyEvent]) -> None:
    follows = [(f.follower_id, f.followee_id) for f in of(events, FollowChanged)]
    assert follows == [("user-1", "user-2"), ("user-2", "user-1"), ("user-3", "user-1")]


def test_one_of_a_places_people_stands_as_its_author_and_the_others_like_it(events: list[AnyEvent]) -> None:
    posts = of(events, PostCreated)
    wrote = {(post.author_id, post.post_id) for post in posts}
    liked = {(like.viewer_id, like.post_id) for like in of(events, Engagement)}
    assert {post.post_id for post in posts} == {"place-10", "place-11"}
    assert wrote | liked == {(f"user-{user}", f"place-{place}") for user, place in LIKED}
    assert len(wrote) + len(liked) == len(LIKED)
    assert {(i.viewer_id, i.post_id) for i in of(events, Impression)} == liked
    assert {a.language for a in of(events, PostAnnotated)} == {"en"}
    assert {like.action for like in of(events, Engagement)} == {"like"}
    assert posts[0].text == f"Place {posts[0].post_id[6:]}: recommended by {posts[0].author_id}"


def test_the_author_is_drawn_among_all_who_liked_the_place() -> None:
    drawn = {
        post.author_id
        for seed in range(30)
        for post in of(list(read(FILES, options(seed=seed), None)), PostCreated)
        if post.post_id == "place-10"
    }
    assert drawn == {"user-1", "user-2", "user-3"}


def test_a_like_comes_after_its_post_and_all_in_order_within_the_span(events: list[AnyEvent]) -> None:
    times = [event.event_time_ms for event in events]
    assert times == sorted(times)
    assert NOW_MS - SPAN_MS <= times[0] <= times[-1] < NOW_MS
    posted = {e.payload.post_id: e.event_time_ms for e in events if type(e.payload) is PostCreated}
    acts = [e for e in events if type(e.payload) in (Impression, Engagement)]
    assert all(e.event_time_ms > posted[e.payload.post_id] for e in acts)
    assert len({event.event_id for event in events}) == len(events)


def test_the_seed_decides_only_what_is_made() -> None:
    one, again, other = (list(read(FILES, options(seed=seed), None)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert of(one, FollowChanged) == of(other, FollowChanged)


def test_without_a_span_two_days_are_taken_and_ids_do_not_depend_on_the_moment() -> None:
    early, late = (list(read(FILES, options(now_ms=now, span_ms=None), None)) for now in (NOW_MS, NOW_MS + 5_000))
    assert early[0].event_time_ms == NOW_MS - SPAN_MS
    assert {e.event_id for e in early} == {e.event_id for e in late}


def test_what_cannot_be_read_is_reported_with_file_line_and_reason() -> None:
    report = ImportReport()
    list(read(FILES, options(), report))
    assert sorted((row.file, row.line, row.reason) for row in report.unreadable) == [
        ("yelp.links", 5, "not all whole numbers"),
        ("yelp.train.rating", 6, "the third number is not 1"),
        ("yelp.train.rating", 7, "an id is out of bounds"),
    ]
    assert report.n_rows == 13
    assert "composite" in report.composition


def test_gzip_carriage_returns_and_a_byte_order_mark_change_nothing(tmp_path: Path, events: list[AnyEvent]) -> None:
    for file in FILES.iterdir():
        data = b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(data))
    assert list(read(tmp_path, options(), None)) == events


def test_a_missing_file_and_ratings_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "yelp.links").unlink()
    with pytest.raises(SourceDataError, match=r"holds no yelp\.links"):
        next(read(tmp_path, options(), None))
    shutil.copy(FILES / "yelp.links", tmp_path)
    (tmp_path / "yelp.test.rating").unlink()
    (tmp_path / "yelp.train.rating").write_text("a\tb\tc\n")
    with pytest.raises(SourceDataError, match="no rating in it can be read"):
        next(read(tmp_path, options(), None))


def test_every_event_passes_the_door_unchanged(events: list[AnyEvent]) -> None:
    for event in events:
        assert CODEC.decode_json(CODEC.encode_json(event)) == event
