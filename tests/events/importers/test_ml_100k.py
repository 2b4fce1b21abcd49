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
from millrace.events.user_events import ProfileUpdated

FILES = Path(__file__).parent / "files" / "ml"
NOW_MS = 1_800_000_000_000
SPAN_MS = 48 * 3_600_000
CODEC = EventCodec(EventRegistry())
read = IMPORTERS["ml-100k"]


def options(**values: Any) -> ImportOptions:
    return ImportOptions(**{"now_ms": NOW_MS} | values)


def of(events: list[AnyEvent], kind: type) -> list[AnyEvent]:
    return [event for event in events if type(event.payload) is kind]


@pytest.fixture(scope="module")
def events() -> list[AnyEvent]:
    return list(read(FILES, options(), None))


def test_movies_are_posts_with_year_and_genres_by_genre_and_year(events: list[AnyEvent]) -> None:
    posts = {e.payload.post_id: (e.payload.author_id, e.payload.text) for e in of(events, PostCreated)}
    assert posts == {
        "movie-1": ("movies/Drama/1995", "The Mill (1995)\n\nDrama, Crime"),
        "movie-2": ("movies/unknown/undated", "Wheels"),
        "movie-3": ("movies/Drama/1971", "Nobody Saw It (1971)\n\nDrama"),
    }
    topics = {e.payload.post_id: e.payload.topics for e in of(events, PostAnnotated)}
    assert topics == {"movie-1": ("Drama", "Crime"), "movie-2": (), "movie-3": ("Drama",)}


def test_stars_become_actions_at_the_ratings_own_times(events: list[AnyEvent]) -> None:
    done = [(e.event_time_ms, e.payload.viewer_id, e.payload.post_id, e.payload.action) for e in of(events, Engagement)]
    assert done == [
        (880_000_100_000, "viewer-1", "movie-1", "click"),
        (880_000_200_000, "viewer-1", "movie-2", "not_interested"),
        (880_000_300_000, "viewer-2", "movie-1", "like"),
        (880_000_400_000, "viewer-2", "movie-2", "like"),
    ]
    seen = [(e.event_time_ms, e.payload.viewer_id, e.payload.post_id) for e in of(events, Impression)]
    assert seen == [row[:3] for row in done]
    assert all(3_000 <= e.payload.dwell_ms <= 6_000 for e in of(events, Impression))


def test_viewers_carry_age_and_gender_and_nothing_else_of_theirs(events: list[AnyEvent]) -> None:
    profiles = [e.payload for e in of(events, ProfileUpdated) if e.payload.user_id.startswith("viewer-")]
    assert [(p.user_id, p.age, p.gender) for p in profiles] == [("viewer-1", 24, "M"), ("viewer-2", 53, "F")]
    assert all(p.bio is None and p.interests is None for p in profiles)


def test_events_come_by_time_a_movie_before_its_ratings_and_ids_are_unique(events: list[AnyEvent]) -> None:
    times = [event.event_time_ms for event in events]
    assert times == sorted(times)
    assert len({event.event_id for event in events}) == len(events)
    posted = {e.payload.post_id: e.event_time_ms for e in of(events, PostCreated)}
    assert all(posted[e.payload.post_id] < e.event_time_ms for e in of(events, Engagement))


def test_with_a_span_the_newest_is_now_and_all_lies_within() -> None:
    times = [event.event_time_ms for event in read(FILES, options(span_ms=SPAN_MS), None)]
    assert times[-1] == NOW_MS
    assert times[0] == NOW_MS - SPAN_MS


def test_the_seed_decides_only_what_is_made() -> None:
    one, again, other = (list(read(FILES, options(seed=seed), None)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert of(one, Engagement) == of(other, Engagement)


def test_what_cannot_be_read_is_reported_with_file_line_and_reason() -> None:
    report = ImportReport()
    list(read(FILES, options(), report))
    assert [(row.file, row.line, row.reason) for row in report.unreadable] == [
        ("ml-100k.item", 5, "the movie was given before"),
        ("ml-100k.item", 6, "no movie id or title"),
        ("ml-100k.user", 4, "the age is not a number of years"),
        ("ml-100k.inter", 6, "the movie is not in ml-100k.item"),
        ("ml-100k.inter", 7, "the rating is not 1 to 5 stars"),
        ("ml-100k.inter", 8, "the rating or its time is not a number"),
        ("ml-100k.inter", 9, "the time is before 1970 or after now"),
        ("ml-100k.inter", 10, "the viewer's id is not a number"),
    ]
    assert report.n_rows == report.n_rows_total == 17
    assert "composite" in report.composition


def test_gzip_carriage_returns_and_a_byte_order_mark_change_nothing(tmp_path: Path, events: list[AnyEvent]) -> None:
    for file in FILES.iterdir():
        data = b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(data))
    assert list(read(tmp_path, options(), None)) == events


def test_another_header_and_files_without_a_usable_row_are_refused(tmp_path: Path) -> None:
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "ml-100k.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t7\t3\t9\n")
    with pytest.raises(SourceDataError, match="none of its 1 ratings can be read"):
        next(read(tmp_path, options(), None))
    (tmp_path / "ml-100k.inter").write_text("user\titem\trating\ttime\n")
    with pytest.raises(SourceDataError, match="has no column user_id:token"):
        next(read(tmp_path, options(), None))


def test_every_event_passes_the_door_unchanged(events: list[AnyEvent]) -> None:
    for event in events:
        assert CODEC.decode_json(CODEC.encode_json(event)) == event
