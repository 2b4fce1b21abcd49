from __future__ import annotations

import gzip
import shutil
from collections import defaultdict
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
from millrace.events.user_events import FollowChanged, ProfileUpdated

FILES = Path(__file__).parent / "files" / "lastfm"
NOW_MS = 1_800_000_000_000
SPAN_MS = 48 * 3_600_000
CODEC = EventCodec(EventRegistry())
read = IMPORTERS["lastfm-2k"]


def options(**values: Any) -> ImportOptions:
    return ImportOptions(**{"now_ms": NOW_MS, "span_ms": SPAN_MS} | values)


def payloads(events: list[AnyEvent], kind: type) -> list[Any]:
    return [event.payload for event in events if type(event.payload) is kind]


@pytest.fixture(scope="module")
def events() -> list[AnyEvent]:
    return list(read(FILES, options(), None))


def test_each_artist_is_an_author_with_one_post_about_its_tags(events: list[AnyEvent]) -> None:
    posts = {post.author_id: post for post in payloads(events, PostCreated)}
    assert set(posts) == {"artist-1", "artist-2", "artist-3"}
    assert posts["artist-1"].text == "The Mill Wheels: folk and música lenta."
    assert posts["artist-1"].media[0].url == "http://pictures.example/1.jpg"
    assert posts["artist-1"].link == "http://music.example/1"
    assert posts["artist-3"].text == "No Tags"
    topics = {a.post_id: a.topics for a in payloads(events, PostAnnotated)}
    assert topics["artist-1-post"] == ("folk", "música lenta")
    assert topics["artist-3-post"] == ()


def test_friends_follow_each_other_whichever_direction_is_given(events: list[AnyEvent]) -> None:
    follows = {(f.follower_id, f.followee_id) for f in payloads(events, FollowChanged)}
    friends = {pair for pair in follows if pair[1].startswith("listener-")}
    assert friends == {
        ("listener-10", "listener-11"),
        ("listener-11", "listener-10"),
        ("listener-11", "listener-12"),
        ("listener-12", "listener-11"),
    }


def test_users_follow_the_artists_they_tagged_in_the_order_of_their_tagging(events: list[AnyEvent]) -> None:
    followed = defaultdict(list)
    for follow in payloads(events, FollowChanged):
        if follow.followee_id.startswith("artist-"):
            followed[follow.follower_id].append(follow.followee_id)
    assert followed == {"listener-10": ["artist-1", "artist-2"], "listener-11": ["artist-1", "artist-2"]}


def test_a_listen_is_an_impression_and_an_action_by_its_weight(events: list[AnyEvent]) -> None:
    dwell_ms = {(i.viewer_id, i.post_id): i.dwell_ms for i in payloads(events, Impression)}
    assert len(dwell_ms) == 8
    assert dwell_ms["listener-10", "artist-1-post"] > dwell_ms["listener-10", "artist-3-post"]
    actions = defaultdict(set)
    for engagement in payloads(events, Engagement):
        actions[engagement.viewer_id, engagement.post_id].add(engagement.action)
    assert actions["listener-13", "artist-1-post"] == {"like", "share"}


def test_a_listen_comes_after_its_post_and_all_in_order_within_the_span(events: list[AnyEvent]) -> None:
    times = [event.event_time_ms for event in events]
    assert times == sorted(times)
    assert times[0] >= NOW_MS - SPAN_MS
    assert times[-1] < NOW_MS
    posted = {e.payload.post_id: e.event_time_ms for e in events if type(e.payload) is PostCreated}
    listened = [e for e in events if type(e.payload) in (Impression, Engagement)]
    assert all(e.event_time_ms > posted[e.payload.post_id] for e in listened)
    assert len({event.event_id for event in events}) == len(events)


def test_times_follow_the_seed_and_nothing_else_does() -> None:
    one, again, other = (list(read(FILES, options(seed=seed), None)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert {e.event_id for e in one} == {e.event_id for e in other}


def test_without_a_span_two_days_are_taken() -> None:
    first = next(iter(read(FILES, options(span_ms=None), None)))
    assert first.event_time_ms == NOW_MS - SPAN_MS


def test_what_cannot_be_read_is_reported_with_file_line_and_reason() -> None:
    report = ImportReport()
    list(read(FILES, options(), report))
    assert [(row.file, row.line, row.reason) for row in report.unreadable] == [
        ("artists.dat", 5, "the artist was given before"),
        ("artists.dat", 6, "no artist id or name"),
        ("artists.dat", 7, "no artist id or name"),
        ("tags.dat", 4, "no tag id or no printable name"),
        ("user_taggedartists.dat", 7, "the artist is not in artists.dat"),
        ("user_artists.dat", 6, "the artist is not in artists.dat"),
        ("user_artists.dat", 7, "not all whole numbers"),
        ("user_friends.dat", 6, "2 columns expected"),
    ]
    assert report.is_composite


def test_gzipped_files_and_the_path_of_one_file_read_the_same(tmp_path: Path, events: list[AnyEvent]) -> None:
    for file in FILES.iterdir():
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert list(read(tmp_path, options(), None)) == events
    assert list(read(tmp_path / "artists.dat.gz", options(), None)) == events


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "user_friends.dat").unlink()
    with pytest.raises(SourceDataError, match=r"user_friends\.dat"):
        list(read(tmp_path, options(), None))


def test_every_event_passes_the_door_unchanged(events: list[AnyEvent]) -> None:
    for event in events:
        assert CODEC.decode_json(CODEC.encode_json(event)) == event


def test_users_and_artists_have_profiles(events: list[AnyEvent]) -> None:
    names = {p.user_id: p.name for p in payloads(events, ProfileUpdated)}
    assert names["artist-2"] == "Écluse"
    assert names["listener-12"] == "Listener 12"
