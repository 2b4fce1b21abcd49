from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.base.errors import ConfigError, SourceDataError
from millrace.events.codec import EventCodec
from millrace.events.content_events import PostCreated
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Engagement, Impression
from millrace.events.importers.map_file import load_map
from millrace.events.importers.mapped import FileKind, MappedFile
from millrace.events.importers.options import ImportOptions
from millrace.events.importers.report import MAX_REASONS, ImportReport
from millrace.events.registry import EventRegistry
from millrace.events.user_events import FollowChanged

NOW_MS = 1_800_000_000_000
SPAN_MS = 48 * 3_600_000
CODEC = EventCodec(EventRegistry())

ACTIONS = """
name = "shop"
[[events]]
type = "Engagement"
when = { column = "what", any_of = ["fav", "buy"] }
time = { column = "at", unit = "s" }
[events.fields]
viewer_id = { template = "u-{who}" }
post_id = "item"
action = { column = "what", names = { fav = "like", buy = "bookmark" } }
[[events]]
type = "Impression"
when = { column = "what", equals = "see" }
time = { column = "at", unit = "s" }
[events.fields]
viewer_id = { template = "u-{who}" }
post_id = "item"
dwell_ms = { column = "secs", times = 1000, default = 0 }
"""
ROWS = b"at,who,what,item,secs\n30,7,fav,p1,\n10,7,see,p1,2.5\n20,8,see,p1,\n40,8,leave,,\n"


def mapped(
    folder: Path, data: bytes, map_text: str, kind: FileKind = "csv", *, check_rows: int = 100, **values: Any
) -> MappedFile:
    (folder / "rows").write_bytes(data)
    (folder / "map.toml").write_text(map_text)
    options = ImportOptions(**{"now_ms": NOW_MS} | values)
    file_map = load_map(folder / "map.toml", CODEC)
    return MappedFile(kind, folder / "rows", file_map, CODEC, options, check_rows=check_rows)


def read(folder: Path, data: bytes, map_text: str, kind: FileKind = "csv", **values: Any) -> list[AnyEvent]:
    return list(mapped(folder, data, map_text, kind, **values).events(ImportReport()))


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def refusal(folder: Path, data: bytes, map_text: str, kind: FileKind = "csv", **values: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        mapped(folder, data, map_text, kind, **values)
    return refused.value.problems


def test_rows_become_events_by_time(tmp_path: Path) -> None:
    events = read(tmp_path, ROWS, ACTIONS)
    assert [(event.event_time_ms, event.source, event.payload) for event in events] == [
        (10_000, "importer/shop", Impression(viewer_id="u-7", post_id="p1", dwell_ms=2_500)),
        (20_000, "importer/shop", Impression(viewer_id="u-8", post_id="p1")),
        (30_000, "importer/shop", Engagement(viewer_id="u-7", post_id="p1", action="like")),
    ]


def test_rows_of_json_give_the_same_events_as_those_of_csv(tmp_path: Path) -> None:
    rows = jsonl(
        {"at": 30, "who": 7, "what": "fav", "item": "p1"},
        {"at": 10.0, "who": "7", "what": "see", "item": "p1", "secs": 2.5},
        {"at": "20", "who": 8, "what": "see", "item": "p1", "secs": None},
        {"what": "leave"},
    )
    assert read(tmp_path, rows, ACTIONS, "jsonl") == read(tmp_path, ROWS, ACTIONS)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(ROWS),
        b"\xef\xbb\xbf" + ROWS,
        ROWS.replace(b"\n", b"\r\n"),
        ROWS.replace(b",", b" , "),
        ROWS.replace(b"7,fav", b'7,"fav"'),
    ],
    ids=["gzip", "byte order mark", "carriage returns", "blanks", "quotes"],
)
def test_the_form_of_a_file_changes_nothing(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data, ACTIONS) == read(tmp_path, ROWS, ACTIONS)


def test_importing_a_grown_or_reordered_file_again_repeats_the_ids(tmp_path: Path) -> None:
    ids = {event.event_id for event in read(tmp_path, ROWS, ACTIONS)}
    header, first, *rest = ROWS.splitlines(keepends=True)
    grown = b"".join([header, *rest, b"50,9,fav,p2,\n", first])
    assert len(ids) == 3
    assert ids < {event.event_id for event in read(tmp_path, grown, ACTIONS)}


def test_with_a_span_the_newest_is_now(tmp_path: Path) -> None:
    times = [event.event_time_ms for event in read(tmp_path, ROWS, ACTIONS, span_ms=SPAN_MS)]
    assert times == [NOW_MS - SPAN_MS, NOW_MS - SPAN_MS // 2, NOW_MS]


def test_an_event_id_of_the_files_own_is_kept_and_a_long_one_hashed(tmp_path: Path) -> None:
    text = ACTIONS.replace("[events.fields]", 'event_id = "item"\n[events.fields]', 1)
    (event,) = (e for e in read(tmp_path, ROWS, text) if type(e.payload) is Engagement)
    assert event.event_id == "shop/Engagement/p1"
    (long,) = (e for e in read(tmp_path, ROWS.replace(b"p1", b"p" * 100), text) if type(e.payload) is Engagement)
    assert len(long.event_id) == len("shop/Engagement/") + 32


def test_paths_lists_and_columns_with_dots(tmp_path: Path) -> None:
    text = """
    [[events]]
    type = "PostCreated"
    time = { column = "made.at", unit = "iso8601" }
    [events.fields]
    post_id = "id"
    author_id = "by.id"
    text = { template = "{title}: {by.name}" }
    is_sensitive = "nsfw"
    media = "media"
    [[events]]
    type = "PostAnnotated"
    time = { column = "made.at", unit = "iso8601" }
    [events.fields]
    post_id = "id"
    producer = { value = "shop" }
    topics = { column = "tags", split = "|" }
    language = { column = "lang", names = { German = "de" }, otherwise = "en", default = "en" }
    """
    rows = jsonl(
        {
            "id": 1,
            "by": {"id": 7, "name": "Ada"},
            "title": "Hi",
            "made.at": "2001-09-09T03:46:40+02:00",
            "nsfw": True,
            "media": [{"kind": "image"}],
            "tags": "a| b||c",
            "lang": "German",
        },
        {"id": 2, "by": {"id": 7}, "title": "Ho", "made": {"at": "2001-09-09"}, "tags": ["d"]},
    )
    second, _, first, annotation = read(tmp_path, rows, text, "jsonl")
    assert (first.event_time_ms, second.event_time_ms) == (1_000_000_000_000, 999_993_600_000)
    assert (first.payload.post_id, first.payload.author_id, first.payload.text) == ("1", "7", "Hi: Ada")
    assert first.payload.is_sensitive
    assert first.payload.media[0].kind == "image"
    assert second.payload.text == ""
    assert (annotation.payload.topics, annotation.payload.language) == (("a", "b", "c"), "de")


def test_rules_without_a_time_come_first_at_the_earliest_time(tmp_path: Path) -> None:
    text = """
    [[events]]
    type = "PostCreated"
    when = { column = "text", is_present = true }
    time = { column = "ms", unit = "ms" }
    [events.fields]
    post_id = "a"
    author_id = "b"
    [[events]]
    type = "FollowChanged"
    when = { column = "text", is_present = false }
    [events.fields]
    follower_id = "a"
    followee_id = "b"
    """
    rows = b"a,b,ms,text\np1,ann,5000,x\nbob,ann,,\np2,ann,4000,y\n"
    report = ImportReport()
    events = list(mapped(tmp_path, rows, text).events(report))
    assert [(e.event_time_ms, type(e.payload)) for e in events] == [
        (4_000, FollowChanged),
        (4_000, PostCreated),
        (5_000, PostCreated),
    ]
    assert report.n_rows == report.n_rows_total == 3
    only = read(tmp_path, b"a,b,ms,text\nbob,ann,,\n", text)
    assert [e.event_time_ms for e in only] == [NOW_MS]


def test_a_row_with_two_times_is_told_in_two_places_or_not_at_all(tmp_path: Path) -> None:
    rule = (
        '[[events]]\ntype = "Engagement"\ntime = {{ column = "{0}", unit = "s" }}\n[events.fields]\n'
        'viewer_id = "who"\npost_id = "item"\naction = {{ value = "{1}" }}\n'
    )
    rows = b"who,item,liked,shared\n1,p,30,10\n2,p,20,20\n3,p,5,never\n4,,1,2\n"
    report = ImportReport()
    text = rule.format("liked", "like") + rule.format("shared", "share")
    events = list(mapped(tmp_path, rows, text).events(report))
    assert [(e.event_time_ms, e.payload.viewer_id, e.payload.action) for e in events] == [
        (10_000, "1", "share"),
        (20_000, "2", "like"),
        (20_000, "2", "share"),
        (30_000, "1", "like"),
    ]
    assert [row.line for row in report.unreadable] == [4, 5]
    assert report.n_rows == report.n_rows_total == 4


def test_a_file_without_a_header_line_gets_its_names_from_the_mapping(tmp_path: Path) -> None:
    text = 'columns = ["at", "who", "what", "item", "secs"]\ndelimiter = ";"\n' + ACTIONS
    rows = ROWS.split(b"\n", 1)[1].replace(b",", b";")
    assert read(tmp_path, rows, text) == read(tmp_path, ROWS, ACTIONS)


def test_what_cannot_be_read_is_reported_and_gives_no_event(tmp_path: Path) -> None:
    rows = ROWS + (
        b"soon,7,fav,p1,\n50,7,fav,,\n50,7,see,p1,long\n50,7\n9999999999999,7,fav,p1,\n50,7,fav,\xff,\n"
        b"50,7,see,p1,-1\n50,7,fav," + b"p" * 200 + b",\n50,,fav,p1,\n50,7,fav,p\x01,\n"
    )
    report = ImportReport()
    events = list(mapped(tmp_path, rows, ACTIONS, check_rows=4).events(report))
    assert events == read(tmp_path, ROWS, ACTIONS)
    assert [(row.file, row.line, row.reason) for row in report.unreadable] == [
        ("rows", 6, "Engagement: at is not a time in s"),
        ("rows", 7, "Engagement: Object missing required field post_id"),
        ("rows", 8, "Impression: dwell_ms: not a number"),
        ("rows", 9, "5 columns expected"),
        ("rows", 10, "Engagement: the time in at is before 1970 or after now (unit s)"),
        ("rows", 11, "not valid UTF-8"),
        ("rows", 12, "Impression: Expected int >= 0 - at dwell_ms"),
        ("rows", 13, "Engagement: post_id: 200 bytes long"),
        ("rows", 14, "Engagement: Object missing required field viewer_id"),
        ("rows", 15, "Engagement: post_id: holds control characters"),
    ]
    assert report.n_unmatched == 1
    assert report.n_rows == report.n_rows_total == 14


def test_lines_that_are_no_json_objects_are_reported(tmp_path: Path) -> None:
    good = jsonl({"at": 30, "who": 7, "what": "fav", "item": "p1"})
    rows = good + b"\n{oops\n[1]\n7\n" + b"[" * 5_000 + b"\n\xff\n"
    report = ImportReport()
    assert len(list(mapped(tmp_path, rows, ACTIONS, "jsonl").events(report))) == 1
    assert [(row.line, row.reason) for row in report.unreadable] == [
        (3, "not valid JSON"),
        (4, "not a JSON object"),
        (5, "not a JSON object"),
        (6, "not valid JSON"),
        (7, "not valid JSON"),
    ]


def test_a_damaged_gzip_gives_what_it_holds(tmp_path: Path) -> None:
    rows = jsonl(*({"at": n, "who": n * n, "what": "fav", "item": f"p{hash(str(n))}"} for n in range(20_000)))
    report = ImportReport()
    events = list(mapped(tmp_path, gzip.compress(rows)[:-50_000], ACTIONS, "jsonl").events(report))
    assert 0 < len(events) < 20_000
    assert "damaged from here on" in report.unreadable[-1].reason


def test_columns_that_are_not_there_are_named_with_those_that_are(tmp_path: Path) -> None:
    (said,) = refusal(tmp_path, ROWS.replace(b"who", b"user").replace(b"secs", b"seconds"), ACTIONS)
    assert said == "rows: no columns who, secs; there are at, user, what, item, seconds"
    rows = jsonl({"at": 1, "user": {"id": 7}, "what": "fav", "item": "p"})
    said, *_ = refusal(tmp_path, rows, ACTIONS, "jsonl")
    assert said.startswith("rows: none of the first 1 rows has who; they have at, user.id, what, item; ")


def test_a_rule_that_cannot_use_most_of_its_rows_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    said = refusal(tmp_path, ROWS.replace(b"0,7", b"0 h,7"), ACTIONS)
    assert said == ("rows: Engagement cannot use 1 of the 1 rows to which it applies; line 2: at is not a time in s",)
    said = refusal(tmp_path, ROWS, ACTIONS.replace("fav =", "favourite ="))
    assert "action: what says something that is not among its names" in said[0]


def test_only_the_rows_asked_for_are_tried(tmp_path: Path) -> None:
    rows = ROWS + b"never,7,fav,p1,\n" * 50
    assert len(list(mapped(tmp_path, rows, ACTIONS, check_rows=4).events(ImportReport()))) == 3
    assert "50 of the 51" in refusal(tmp_path, rows, ACTIONS, check_rows=100)[0]


def test_a_mapping_that_applies_to_nothing_and_files_without_rows_are_refused(tmp_path: Path) -> None:
    assert (
        "no rule applies to any of the first 1 rows"
        in refusal(tmp_path, b"at,who,what,item,secs\n1,2,x,y,\n", ACTIONS)[0]
    )
    for kind, data, problem in (
        ("csv", b"at,who,what,item,secs\n", "there are none"),
        ("csv", b"", "is empty"),
        ("jsonl", b"", "there are none"),
        ("jsonl", ROWS, "not valid JSON"),
    ):
        with pytest.raises(SourceDataError, match=problem):
            mapped(tmp_path, data, ACTIONS, kind)


def test_reasons_do_not_grow_with_the_file() -> None:
    report = ImportReport()
    for number in range(10 * MAX_REASONS):
        report.leave_out("f", number, f"reason {number}", "")
    assert len(report.n_unreadable_by_reason) == MAX_REASONS + 1
    assert report.n_unreadable_by_reason.total() == report.n_unreadable


cells = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["fav", "see", "1", "1e400", "-5", "nan"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.lists(st.lists(cells, min_size=4, max_size=6).map(",".join), max_size=5), tail=st.binary(max_size=30))
def test_no_row_of_csv_ends_an_import(tmp_path: Path, body: list[str], tail: bytes) -> None:
    report = ImportReport()
    rows = ROWS + "\n".join(body).encode() + b"\n" + tail
    events = list(mapped(tmp_path, rows, ACTIONS, check_rows=4).events(report))
    assert len(events) >= 3
    assert report.n_rows == report.n_rows_total == len(events) + report.n_unreadable + report.n_unmatched
    for event in events:
        assert CODEC.decode_json(CODEC.encode_json(event)) == event


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["fav", "see"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.fixed_dictionaries({}, optional=dict.fromkeys(("at", "who", "what", "item", "secs"), json_values)))
def test_no_row_of_json_ends_an_import(tmp_path: Path, row: dict[str, Any]) -> None:
    report = ImportReport()
    good = {"at": 30, "who": 7, "what": "fav", "item": "p1"}
    events = list(mapped(tmp_path, jsonl(good, row), ACTIONS, "jsonl", check_rows=1).events(report))
    assert report.n_rows == 2
    assert len(events) == 2 - report.n_unreadable - report.n_unmatched
    for event in events:
        assert CODEC.decode_json(CODEC.encode_json(event)) == event
