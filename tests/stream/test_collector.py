import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.clock import ManualClock
from millrace.base.errors import LogFullError
from millrace.events.codec import EventCodec
from millrace.events.content_events import PostCreated
from millrace.events.envelope import Event
from millrace.events.feed_events import Engagement, Served
from millrace.events.registry import EventRegistry
from millrace.stream.collector import Collector, LineResult, ndjson_lines
from millrace.stream.memory_log import MemoryLog
from millrace.stream.traffic import TrafficWatch

NOW_MS = 1_800_000_000_000


class Door:
    """A collector over a memory log, with what a test looks at."""

    def __init__(self, max_bytes: int | None = None, **limits: int) -> None:
        self.clock = ManualClock(NOW_MS)
        self.log = MemoryLog(self.clock, max_bytes=max_bytes)
        self.codec = EventCodec(EventRegistry())
        self.collector = Collector(self.log, self.codec, self.clock, **limits)

    def send(self, *lines: object) -> list[LineResult]:
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        return list(self.collector.submit_json(raw, "web"))

    def events(self) -> list[Any]:
        batch = self.log.subscribe("read").poll(1_000)
        return [self.codec.decode(data) for data in batch.data]

    def letters(self) -> list[tuple[str, str, str, bytes]]:
        return [(letter.topic, letter.origin, letter.reason, letter.data) for letter in self.log.dead_letters()]


def a_like(event_id: str | int = "e1", post_id: object = "p1", **fields: object) -> dict[str, object]:
    payload = {"type": "Engagement", "viewer_id": "v", "post_id": post_id, "action": "like"}
    return {"event_id": event_id, "payload": payload, **fields}


def test_good_lines_are_in_the_log_when_the_answer_comes() -> None:
    door = Door()
    receipt = door.collector.submit_json([json.dumps(a_like(post_id=42)).encode()], "web")
    assert list(receipt) == [LineResult("accepted", "e1")]
    assert (receipt.n_accepted, receipt.n_duplicates, receipt.n_refused) == (1, 0, 0)
    assert receipt.end == door.log.end() == (1,)
    assert (len(receipt), receipt[0].status, receipt[:1]) == (1, "accepted", receipt.results)
    (event,) = door.events()
    assert (event.source, event.event_time_ms, event.payload.post_id) == ("web", NOW_MS, "42")


def test_a_bad_line_goes_to_dead_letters_and_the_rest_goes_on() -> None:
    door = Door()
    bad = json.dumps(a_like("e2", post_id="")).encode()
    results = door.send(a_like("e1"), bad, b"{not json", a_like("e3"), a_like("e1"))
    assert [result.status for result in results] == ["accepted", "refused", "refused", "accepted", "duplicate"]
    assert [result.event_id for result in results] == ["e1", "e2", "", "e3", "e1"]
    assert "post_id ''" in results[1].error
    first, second = door.letters()
    assert first == ("events.engagement", "door/web", results[1].error, bad)
    assert (second[0], second[3]) == ("", b"{not json")
    assert "not valid JSON" in second[2]


def test_an_event_that_only_the_server_writes_is_refused_from_clients() -> None:
    door = Door()
    served = {"type": "Served", "request_id": "r", "viewer_id": "v", "pipeline": "home"}
    (result,) = door.send({"event_id": "s", "payload": served})
    assert (result.status, result.event_id) == ("refused", "s")
    assert "written by the server only" in result.error
    assert door.letters()[0][0] == "events.served"


def test_our_own_producers_may_write_internal_events() -> None:
    door = Door()
    served = Served(request_id="r", viewer_id="v", pipeline="home")
    event = Event(event_id="s", event_time_ms=NOW_MS, source="server", payload=served)
    receipt = door.collector.submit([event, event])
    assert [result.status for result in receipt] == ["accepted", "duplicate"]
    assert door.events() == [event]


def test_an_event_of_ours_that_breaks_the_rules_is_refused_too() -> None:
    door = Door()
    posts = [
        PostCreated(post_id="p", author_id="a"),
        PostCreated(post_id="x" * 200, author_id="a"),
        PostCreated(post_id="q", author_id="a", kind="reply"),
        PostCreated(post_id="r", author_id="a", created_at_ms=1 << 70),
    ]
    events = [Event(event_id=f"e{i}", event_time_ms=1, source="importer/x", payload=p) for i, p in enumerate(posts)]
    events.append(
        Event(
            event_id="e9", event_time_ms=1, source="s", payload=Engagement(viewer_id="v", post_id="p", action="dwell")
        )
    )
    receipt = door.collector.submit(events)
    assert [result.status for result in receipt] == ["accepted"] + ["refused"] * 4
    assert [result.event_id for result in receipt] == ["e0", "e1", "e2", "e3", "e9"]
    assert [letter[1] for letter in door.letters()] == ["door/importer/x"] * 3 + ["door/s"]
    assert json.loads(door.letters()[1][3])["payload"]["post_id"] == "q"


def test_a_line_that_is_too_large_is_refused_and_only_its_beginning_kept() -> None:
    door = Door(max_event_bytes=2_000)
    line = json.dumps(a_like(extra="x" * 10_000)).encode()
    (result,) = door.send(line)
    assert f"{len(line)} bytes long" in result.error
    assert door.letters()[0][3] == line[:4096]


def test_large_submissions_are_cut_into_several_appends() -> None:
    door = Door(max_batch_events=3)
    results = door.send(*(a_like(f"e{i % 8}") for i in range(10)))
    assert [result.status for result in results] == ["accepted"] * 8 + ["duplicate"] * 2
    assert [event.event_id for event in door.events()] == [f"e{i}" for i in range(8)]


def test_a_full_log_acknowledges_nothing_and_the_repetition_is_harmless() -> None:
    door = Door(max_bytes=250, max_batch_events=1)
    with pytest.raises(LogFullError):
        door.send(a_like("e1"), b"bad", a_like("e2"), a_like("e3"))
    door.log._max_bytes = None
    assert door.send(a_like("e1"), a_like("e2"), a_like("e3"))[0].status == "duplicate"
    assert [event.event_id for event in door.events()] == ["e1", "e2", "e3"]


def test_nothing_submitted_is_answered_with_nothing() -> None:
    door = Door()
    assert len(door.collector.submit_json([], "web")) == 0
    assert door.collector.submit([]).end == (0,)


def test_events_keep_the_order_of_their_key() -> None:
    door = Door()
    door.send(*(a_like(f"e{i}") for i in range(5)))
    (partition,) = set(door.log._partitions)
    assert door.log.subscribe("g", partitions=[partition]).poll(9).offsets.tolist() == [0, 1, 2, 3, 4]


def test_a_body_is_cut_into_lines_without_blank_ones() -> None:
    assert ndjson_lines(b'{"a":1}\r\n\n  \n{"b":2}\n') == [b'{"a":1}', b'{"b":2}']
    assert ndjson_lines(b"") == []


NASTY = [
    b"[" * 100_000,
    b'{"payload": ' * 2_000,
    b'{"event_id": %s, "payload": {"type": "UserErased", "user_id": "u"}}' % (b"9" * 5_000),
    b'{"payload": {"type": "PostAnnotated", "post_id": "p", "producer": "x", "token_hashes": [%s]}}' % (b"9" * 30),
    b'{"payload": {"type": "UserErased", "user_id": "\\ud800"}}',
    b'{"event_id": "\\u0000", "payload": {"type": "UserErased", "user_id": "u"}}',
    b'{"payload": {"type": ["UserErased"], "user_id": "u"}}',
    b'{"payload": {"type": "UserErased", "user_id": {"a": 1}}}',
    b"\xff\xfe",
    b"null",
    b"",
    b'{"event_time_ms": -1, "payload": {"type": "UserErased", "user_id": "u"}}',
    b'{"event_time_ms": 1e400, "payload": {"type": "UserErased", "user_id": "u"}}',
]


@pytest.mark.parametrize("line", NASTY, ids=range(len(NASTY)))
def test_nasty_lines_are_refused_with_a_reason(line: bytes) -> None:
    door = Door()
    bad, good = door.send(line, a_like())
    assert (bad.status, good.status) == ("refused", "accepted")
    assert bad.error
    assert door.letters()[0][3] == line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["viewer_id", "post_id", "action", "amount", "author_id", "kind", "parent_id", "is_undo"])


@given(
    payload_type=st.sampled_from([t.name for t in EventRegistry()]),
    fields=st.dictionaries(FIELDS, st.sampled_from(["like", "p", 1, None, "reply"]) | JSON, max_size=6),
    envelope=st.dictionaries(st.sampled_from(["event_id", "event_time_ms", "source", "x"]), JSON, max_size=2),
    raw=st.binary(max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_no_line_breaks_the_door_and_all_that_is_accepted_can_be_read(
    payload_type: str, fields: dict[str, object], envelope: dict[str, object], raw: bytes
) -> None:
    door = Door()
    results = door.send({**envelope, "payload": {"type": payload_type, **fields}}, raw)
    assert len(door.events()) == sum(result.status == "accepted" for result in results)
    assert len(door.letters()) == sum(result.status == "refused" for result in results)


def test_implausible_traffic_is_taken_in_and_flagged_beside_it() -> None:
    door = Door()
    door.collector = Collector(door.log, door.codec, door.clock, watch=TrafficWatch())
    results = door.send(*(a_like(f"e{i}", post_id=i) for i in range(60)))
    assert {result.status for result in results} == {"accepted"}
    *likes, flag = door.events()
    assert len(likes) == 60
    assert (flag.source, flag.payload.reason, flag.payload.client) == ("door", "burst", "web")
    assert flag.payload.events == tuple(f"e{i}" for i in range(50, 60))
    door.send(*(a_like(f"e{i}", post_id=i) for i in range(60)))
    assert len(door.events()) == 61


def test_events_of_a_clock_that_is_ahead_are_moved_and_keep_their_derived_ids() -> None:
    door = Door()
    like = {"payload": a_like()["payload"], "event_time_ms": NOW_MS + 3_600_000}
    lines = [json.dumps(like).encode()]
    for sent_ms in (NOW_MS + 3_660_000, NOW_MS + 3_700_000):
        receipt = door.collector.submit_json(lines, "web", client="viewer/v", sent_ms=sent_ms)
    assert receipt.n_duplicates == 1
    (event,) = door.events()
    assert event.event_time_ms == NOW_MS - 60_000
