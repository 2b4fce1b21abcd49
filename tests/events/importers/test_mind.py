from __future__ import annotations

import gzip
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from millrace.base.errors import SourceDataError
from millrace.events.codec import EventCodec
from millrace.events.content_events import PostAnnotated, PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression, Served
from millrace.events.importers import IMPORTERS, ImportOptions, ImportReport
from millrace.events.registry import EventRegistry
from millrace.events.user_events import FollowChanged, ProfileUpdated
from millrace.stores.dwell import IS_DWELL, dwell_flags
from millrace.stores.engagement_config import DwellThresholds

FILES = Path(__file__).parent / "files" / "mind"
NOW_MS = 1_800_000_000_000
SPAN_MS = 48 * 3_600_000
LOG_MS = 1_573_634_217_000  # 2019-11-13 08:36:57 UTC, the earliest row
CODEC = EventCodec(EventRegistry())
read = IMPORTERS["mind"]


def options(**values: Any) -> ImportOptions:
    return ImportOptions(**{"now_ms": NOW_MS} | values)


def of(events: list[AnyEvent], kind: type) -> list[AnyEvent]:
    return [event for event in events if type(event.payload) is kind]


@pytest.fixture(scope="module")
def events() -> list[AnyEvent]:
    return list(read(FILES, options(), None))


def test_articles_are_posts_of_their_subcategory_with_title_abstract_and_link(events: list[AnyEvent]) -> None:
    posts = {event.payload.post_id: event.payload for event in of(events, PostCreated)}
    assert set(posts) == {"N1", "N2", "N3", "N90"}
    assert posts["N1"].author_id == "sports/rowing"
    assert posts["N1"].text == "The boat race\n\nTwo boats, one river."
    assert posts["N1"].link == "https://example.org/1.html"
    assert posts["N2"].text == "Mill reopens"
    topics = {e.payload.post_id: (e.payload.topics, e.payload.language) for e in of(events, PostAnnotated)}
    assert topics["N1"] == (("sports", "rowing"), "en")
    assert topics["N3"] == (("weather",), "en")


def test_an_article_of_which_only_the_id_is_known_says_so(events: list[AnyEvent]) -> None:
    (post,) = (e.payload for e in of(events, PostCreated) if e.payload.post_id == "N90")
    assert post.text == "Article N90 (the data set does not give its title)"
    assert post.author_id.startswith("unlisted/")
    assert post.author_id in {e.payload.user_id for e in of(events, ProfileUpdated)}


def test_a_row_is_a_page_sent_everything_on_it_seen_and_what_was_clicked(events: list[AnyEvent]) -> None:
    served = [(e.event_time_ms, e.payload) for e in of(events, Served)]
    assert [(at - LOG_MS, s.request_id, s.viewer_id) for at, s in served] == [
        (0, "mind-5", "U1"),
        (43_200_000, "mind-7", "U2"),
        (87_783_000, "mind-9", "U1"),
        (87_786_000, "mind-15", "U4"),
    ]
    page = served[1][1]
    assert [(item.post_id, item.author_id, item.position) for item in page.items[:2]] == [
        ("N2", "news/newslocal", 0),
        ("N3", "weather/weather", 1),
    ]
    seen = [e.payload for e in of(events, Impression) if e.payload.request_id == "mind-7"]
    assert [(i.viewer_id, i.post_id, i.position) for i in seen] == [("U2", "N2", 0), ("U2", "N3", 1), ("U2", "N90", 2)]
    clicks = [e.payload for e in of(events, Engagement) if e.payload.request_id]
    assert [(c.request_id, c.post_id, c.position, c.action) for c in clicks] == [
        ("mind-5", "N2", 0, "click"),
        ("mind-7", "N3", 1, "click"),
        ("mind-15", "N3", 0, "click"),
    ]
    assert Counter(e.event_time_ms for e in events if getattr(e.payload, "request_id", None) == "mind-7") == {
        LOG_MS + 43_200_000: 5
    }


def test_what_was_clicked_was_viewed_and_what_was_not_clicked_claims_nothing(events: list[AnyEvent]) -> None:
    clicked = {(e.payload.request_id, e.payload.post_id) for e in of(events, Engagement)}
    thresholds = DwellThresholds().as_array()
    for seen in (event.payload for event in of(events, Impression)):
        is_clicked = (seen.request_id, seen.post_id) in clicked
        flags = dwell_flags(seen.dwell_ms, seen.dwell_ms, seen.duration_ms, thresholds)
        assert flags == (IS_DWELL if is_clicked else 0)


def test_a_history_is_told_once_in_its_order_before_the_log_begins(events: list[AnyEvent]) -> None:
    history = [e for e in of(events, Engagement) if e.payload.request_id is None]
    assert sorted((e.payload.viewer_id, e.payload.post_id) for e in history) == [
        ("U1", "N1"),
        ("U1", "N90"),
        ("U2", "N1"),
    ]
    of_one = [e.payload.post_id for e in history if e.payload.viewer_id == "U1"]
    assert of_one == ["N90", "N1"]
    assert all(LOG_MS - 4 * 86_400_000 < e.event_time_ms < LOG_MS for e in history)
    assert len([e for e in of(events, Impression) if e.payload.request_id is None]) == len(history)


def test_nobody_follows_anybody(events: list[AnyEvent]) -> None:
    assert of(events, FollowChanged) == []


def test_events_come_by_time_an_article_before_its_use_and_ids_are_unique(events: list[AnyEvent]) -> None:
    times = [event.event_time_ms for event in events]
    assert times == sorted(times)
    assert len({event.event_id for event in events}) == len(events)
    published: set[str] = set()
    for event in events:
        if type(event.payload) is PostCreated:
            published.add(event.payload.post_id)
        elif type(event.payload) in (Impression, Engagement):
            assert event.payload.post_id in published


def test_with_a_span_the_newest_is_now_and_all_lies_within() -> None:
    times = [event.event_time_ms for event in read(FILES, options(span_ms=SPAN_MS), None)]
    assert times[-1] == NOW_MS
    assert times[0] == NOW_MS - SPAN_MS


def test_the_seed_decides_only_what_is_made() -> None:
    one, again, other = (list(read(FILES, options(seed=seed), None)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert [e for e in one if type(e.payload) is Served] == [e for e in other if type(e.payload) is Served]
    assert {e.event_id for e in one} == {e.event_id for e in other}


def test_what_cannot_be_read_is_reported_with_file_line_and_reason() -> None:
    report = ImportReport()
    list(read(FILES, options(), report))
    assert [(row.file, row.line, row.reason) for row in report.unreadable] == [
        ("news.tsv", 4, "the title is empty"),
        ("news.tsv", 5, "the article was given before"),
        ("news.tsv", 6, "8 columns expected"),
        ("behaviors.tsv", 4, "the time is not like 11/13/2019 8:36:57 AM"),
        ("behaviors.tsv", 5, "the articles shown are not all like N123-0 or N123-1"),
        ("behaviors.tsv", 6, "the articles shown are not all like N123-0 or N123-1"),
        ("behaviors.tsv", 7, "the articles shown are not all like N123-0 or N123-1"),
        ("behaviors.tsv", 8, "the row's or the viewer's id is not letters and digits"),
    ]
    assert report.n_rows == report.n_rows_total == 15
    assert "composite" in report.composition


def test_gzip_carriage_returns_and_a_byte_order_mark_change_nothing(tmp_path: Path, events: list[AnyEvent]) -> None:
    for file in FILES.iterdir():
        data = b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(data))
    assert list(read(tmp_path, options(), None)) == events
    assert list(read(tmp_path / "news.tsv.gz", options(), None)) == events


def test_a_missing_file_and_a_log_of_which_nothing_can_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceDataError, match=r"behaviors\.tsv"):
        next(read(tmp_path, options(), None))
    shutil.copy(FILES / "news.tsv", tmp_path)
    (tmp_path / "behaviors.tsv").write_text("1\tU1\tnever\t\tN1-0\n")
    with pytest.raises(SourceDataError, match="none of its 1 rows can be read"):
        next(read(tmp_path, options(), None))


def test_every_event_passes_the_door_unchanged(events: list[AnyEvent]) -> None:
    for event in events:
        assert CODEC.decode_json(CODEC.encode_json(event)) == event
