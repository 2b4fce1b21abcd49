from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from millrace.base.errors import SourceDataError
from millrace.events.codec import EventCodec
from millrace.events.content_events import CountsObserved, PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.importers import IMPORTERS, ImportOptions, ImportReport
from millrace.events.importers.reddit_communities import language_of, topic_of
from millrace.events.importers.reddit_posts import SOURCE
from millrace.events.registry import EventRegistry
from millrace.events.user_events import FollowChanged, ProfileUpdated

FILES = Path(__file__).parent / "files" / "reddit"
NOW_MS = 1_800_000_000_000
SPAN_MS = 48 * 3_600_000
CODEC = EventCodec(EventRegistry())
read = IMPORTERS["reddit-posts"]


def options(**values: Any) -> ImportOptions:
    return ImportOptions(**{"now_ms": NOW_MS, "span_ms": SPAN_MS, "n_viewers": 20} | values)


def payloads(events: list[AnyEvent], kind: type) -> list[Any]:
    return [event.payload for event in events if type(event.payload) is kind]


def test_readable_rows_become_posts_of_their_community() -> None:
    posts = payloads(list(read(FILES, options(), None)), PostCreated)
    assert [post.post_id for post in posts] == ["t3_a1", "t3_a2", "t3_a3", "t3_a7", "t3_b2", "t3_b3"]
    first, german, cat, video, _, last = posts
    assert first.author_id == "r/programming"
    assert first.link == "https://example.org/"
    assert german.text == "Guten Morgen\n\nEin Text,\nüber zwei Zeilen"
    assert german.link == ""
    assert cat.text == "A cat & a dog"
    assert cat.media[0].kind == "image"
    assert video.media[0].kind == "video"
    assert video.is_sensitive
    assert last.text == 'The last one, with "quotes"'


def test_what_cannot_be_read_is_reported_with_line_and_reason() -> None:
    report = ImportReport()
    list(read(FILES / "posts.csv", options(), report))
    assert report.n_rows == report.n_rows_total == 14
    assert [(row.line, row.reason) for row in report.unreadable] == [
        (6, "the id is not letters and digits"),
        (7, "a time, vote or comment count is not a number"),
        (8, "10 columns expected"),
        (9, "the time is before June 2005 or after now"),
        (11, "over_18 is neither True nor False"),
        (12, "a count is negative"),
        (13, "the title is empty"),
        (16, "not valid UTF-8"),
    ]
    assert report.unreadable[0].file == "posts.csv"
    assert report.is_composite
    assert "made by seed" in report.composition


def test_gzipped_files_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "posts.csv.gz").write_bytes(gzip.compress((FILES / "posts.csv").read_bytes()))
    assert list(read(tmp_path, options(), None)) == list(read(FILES, options(), None))


def test_a_span_is_filled_and_without_one_original_times_stay() -> None:
    spanned = [e for e in read(FILES, options(), None) if type(e.payload) is PostCreated]
    assert spanned[-1].event_time_ms == NOW_MS
    assert spanned[0].event_time_ms == NOW_MS - SPAN_MS
    plain = [e for e in read(FILES, options(span_ms=None), None) if type(e.payload) is PostCreated]
    assert plain[0].event_time_ms == 1_300_000_000_000


def test_events_are_ordered_by_time_and_their_ids_are_unique() -> None:
    events = list(read(FILES, options(), None))
    times = [event.event_time_ms for event in events]
    assert times == sorted(times)
    assert len({event.event_id for event in events}) == len(events)


def test_the_seed_decides_viewers_and_nothing_of_the_real_rows() -> None:
    one, again, other = (list(read(FILES, options(seed=seed), None)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert payloads(one, PostCreated) == payloads(other, PostCreated)


def test_votes_are_observed_and_topics_and_languages_annotated() -> None:
    events = list(read(FILES, options(), None))
    counts = {c.post_id: c.counts for c in payloads(events, CountsObserved)}
    assert counts["t3_a1"] == {"like": 120, "not_interested": 20, "reply": 31}
    annotations = {a.post_id: a for a in payloads(events, PostAnnotated)}
    assert annotations["t3_a2"].language == "de"
    assert annotations["t3_a2"].topics == ("places",)
    assert annotations["t3_a1"].producer == SOURCE


def test_viewers_follow_communities_and_each_other_and_react_to_posts() -> None:
    events = list(read(FILES, options(n_viewers=40), None))
    follows = payloads(events, FollowChanged)
    assert {f.followee_id for f in follows if f.followee_id.startswith("r/")} == {
        "r/programming",
        "r/de",
        "r/aww",
        "r/WTF",
        "r/chess",
    }
    assert all(f.follower_id.startswith("reader-") for f in follows)
    assert any(f.followee_id.startswith("reader-") for f in follows)
    assert all(f.follower_id != f.followee_id for f in follows)
    seen = {(i.viewer_id, i.post_id) for i in payloads(events, Impression)}
    assert seen
    assert all((e.viewer_id, e.post_id) in seen for e in payloads(events, Engagement))
    profiles = Counter(p.user_id.split("-")[0].split("/")[0] for p in payloads(events, ProfileUpdated))
    assert profiles == {"r": 5, "reader": 40}


def test_no_viewers_can_be_asked_for() -> None:
    events = list(read(FILES, options(n_viewers=0), None))
    assert {type(event.payload) for event in events} == {ProfileUpdated, PostCreated, PostAnnotated, CountsObserved}


def test_every_event_passes_the_door_unchanged() -> None:
    for event in read(FILES, options(), None):
        assert CODEC.decode_json(CODEC.encode_json(event)) == event


def test_a_file_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    header = (FILES / "posts.csv").read_bytes().splitlines()[0]
    (tmp_path / "posts.csv").write_bytes(header + b"\n,,,,,,,,,\n")
    with pytest.raises(SourceDataError, match="none of its 1 rows can be read"):
        list(read(tmp_path, options(), None))


def test_an_unknown_community_is_its_own_topic() -> None:
    assert topic_of("Python") == "programming"
    assert topic_of("Knitting") == "knitting"
    assert language_of("Knitting") == "en"
