"""Bytes of schema version 1 decode forever: the log of the first release is still a log.

``data/v1.ndjson`` and ``data/v1.msgpack`` (a MessagePack array of the log's byte strings) hold one event of
every type with every field set. They were written once, by version 1, and are never rewritten; later types are
appended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.base.errors import SchemaError
from millrace.events.codec import EventCodec
from millrace.events.content_events import (
    CountsObserved,
    EditorialPicked,
    LabelChanged,
    Media,
    PostAnnotated,
    PostCreated,
    PostDeleted,
    PostEdited,
)
from millrace.events.envelope import AnyEvent, Context, Event, Payload
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged
from millrace.events.feed_events import ClockTick, ComponentOutcome, Engagement, Impression, Served, ServedItem
from millrace.events.model_events import ModelWithdrawn
from millrace.events.near_line_events import NearLineUpdated
from millrace.events.registry import BUILT_IN, EventRegistry
from millrace.events.sample_events import SamplesJoined
from millrace.events.traffic_events import TrafficFlagged
from millrace.events.user_events import (
    BlockChanged,
    FollowChanged,
    MuteChanged,
    ProfileUpdated,
    Search,
    UserErased,
)

DATA = Path(__file__).parent / "data"

CONTEXT = Context(
    session_id="s1",
    device="phone",
    os="os 1",
    app_version="1.2",
    network="wifi",
    place="Bern",
    surface="home",
    element="card",
    page=2,
)
MEDIA = (Media(kind="video", url="https://example.org/v", duration_ms=9_000, alt_text="a wheel"),)
PAYLOADS: tuple[Payload, ...] = (
    PostCreated(
        post_id="p2",
        author_id="ada",
        kind="quote",
        text="Das Wasser läuft. 水は流れる。",
        media=MEDIA,
        parent_id="p1",
        parent_author_id="bob",
        conversation_id="p1",
        is_sensitive=True,
        link="https://example.org",
        created_at_ms=1_700_000_000_000,
    ),
    PostEdited(post_id="p2", text="new", media=(), is_sensitive=False),
    PostDeleted(post_id="p2", reason="author"),
    PostAnnotated(
        post_id="p2",
        producer="rules",
        producer_version="3",
        language="de-CH",
        topics=("rivers", "wheels"),
        token_hashes=(1, -2),
        vector=(0.5, -0.25),
    ),
    LabelChanged(label="spam", user_id="bob", is_set=False, reason="appeal"),
    CountsObserved(post_id="p2", counts={"like": 3, "impression": 100}),
    ProfileUpdated(
        user_id="ada",
        name="Ada",
        bio="mills",
        interests=("rivers",),
        languages=("de", "ja"),
        is_verified=True,
        settings={"sensitive_media": "show"},
        age=36,
        gender="f",
    ),
    FollowChanged(follower_id="ada", followee_id="bob", is_following=False, list_id="l1"),
    BlockChanged(blocker_id="ada", blocked_id="bob", is_blocked=False),
    MuteChanged(muter_id="ada", keyword="flood", is_muted=False),
    Search(user_id="ada", query="wheel", n_results=4, context=CONTEXT),
    UserErased(user_id="bob"),
    Served(
        request_id="r1",
        viewer_id="ada",
        pipeline="home",
        plan="light",
        state_offset=(42,),
        params={"author.decay": 0.5},
        param_levels={"author.decay": "config"},
        items=(ServedItem(post_id="p1", author_id="bob", position=0, sources=("in_network",), scores={"final": 1.5}),),
        outcomes=(ComponentOutcome(stage="source", component="popular", fate="late", detail="20 ms"),),
        n_candidates=1_500,
        context=CONTEXT,
    ),
    Impression(
        viewer_id="ada",
        post_id="p1",
        dwell_ms=3_500,
        duration_ms=9_000,
        request_id="r1",
        position=0,
        context=CONTEXT,
    ),
    Engagement(
        viewer_id="ada",
        post_id="p1",
        action="like",
        is_undo=True,
        request_id="r1",
        position=0,
        context=CONTEXT,
    ),
    ClockTick(now_ms=1_700_000_000_001),
    EditorialPicked(post_id="p1", is_picked=False, until_ms=1_700_000_000_002, note="too long"),
    FeaturesLogged(
        request_id="r1",
        viewer_id="ada",
        pipeline="home",
        schema="0123456789abcdef",
        state_offset=(42,),
        models={"ranker": "v3"},
        share=0.5,
        arrays=b"\x01\x00\xff",
    ),
    CandidatesLogged(
        request_id="r1",
        viewer_id="ada",
        pipeline="home",
        schema="0123456789abcdef",
        state_offset=(42,),
        models={"ranker": "v3"},
        share=0.01,
        arrays=b"\x01\x00\xff",
    ),
    TrafficFlagged(viewer_id="ada", client="viewer/ada", reason="burst", events=("e1", "e2"), value=6.5, limit=5.0),
    SamplesJoined(
        request=-7, viewer=8, epoch=9, page_offset=10, page_ms=1_700_000_000_003, rows=b"\x01\x00", labels=b"\xff"
    ),
    NearLineUpdated(model="v3", n_slots=64, is_reset=True, arrays=b"\x01\x00\xff"),
    ModelWithdrawn(kind="ranker", version="v3", guard="auc_drop of like", reason="it fell by 0.2", instead="v2"),
)
EVENTS: tuple[AnyEvent, ...] = tuple(
    Event(event_id=f"e{i}", event_time_ms=1_700_000_000_000 + i, source="web", payload=payload, schema_version=1)
    for i, payload in enumerate(PAYLOADS)
)


@pytest.fixture(scope="module")
def codec() -> EventCodec:
    return EventCodec(EventRegistry())


def v1_packed() -> list[bytes]:
    return msgspec.msgpack.decode((DATA / "v1.msgpack").read_bytes(), type=list[bytes])


def v1_lines() -> list[bytes]:
    return (DATA / "v1.ndjson").read_bytes().splitlines()


def test_every_built_in_type_is_among_the_kept_bytes() -> None:
    assert [type(payload) for payload in PAYLOADS] == [kind.payload for kind in BUILT_IN]


@pytest.mark.parametrize("index", range(len(EVENTS)), ids=[type(payload).__name__ for payload in PAYLOADS])
def test_version_1_bytes_still_decode(codec: EventCodec, index: int) -> None:
    assert codec.decode(v1_packed()[index]) == EVENTS[index]
    assert codec.decode_json(v1_lines()[index]) == EVENTS[index]


@pytest.mark.parametrize("event", EVENTS, ids=[type(payload).__name__ for payload in PAYLOADS])
def test_every_event_survives_both_encodings(codec: EventCodec, event: AnyEvent) -> None:
    assert codec.decode(codec.encode(event)) == event
    assert codec.decode_json(codec.encode_json(event)) == event


def test_what_was_added_to_a_type_survives_both_encodings_and_is_not_written_where_it_is_not_said(
    codec: EventCodec,
) -> None:
    old = next(event for event in EVENTS if isinstance(event.payload, TrafficFlagged))
    added = {"requests": ("r1", "r2"), "first_ms": 1_700_000_000_000, "last_ms": 1_700_000_000_009}
    new = msgspec.structs.replace(old, payload=msgspec.structs.replace(old.payload, **added))
    assert codec.decode(codec.encode(new)) == new
    assert codec.decode_json(codec.encode_json(new)) == new
    assert codec.encode(old) in v1_packed()


def test_fields_of_a_newer_producer_are_ignored(codec: EventCodec) -> None:
    raw: dict[str, Any] = msgspec.json.decode(v1_lines()[2])
    raw["payload"]["added_in_version_9"] = {"x": 1}
    raw["schema_version"] = 9
    assert codec.decode_json(msgspec.json.encode(raw)).payload == PAYLOADS[2]
    assert codec.decode(msgspec.msgpack.encode(raw)).payload == PAYLOADS[2]


def test_an_unknown_field_of_the_envelope_is_refused(codec: EventCodec) -> None:
    raw: dict[str, Any] = msgspec.json.decode(v1_lines()[2])
    raw["evnt_time_ms"] = 1
    with pytest.raises(SchemaError, match="evnt_time_ms"):
        codec.decode_json(msgspec.json.encode(raw))
