"""A viewer's token sends that viewer's own events: every type, somebody's and somebody else's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from millrace.app.own_events import OwnEvents, edited_posts
from millrace.base.clock import ManualClock
from millrace.base.errors import ForbiddenError
from millrace.events.codec import EventCodec
from millrace.events.envelope import AnyEvent
from millrace.events.registry import BUILT_IN, EventRegistry
from millrace.stream.collector import Collector
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import an_event

CODEC = EventCodec(EventRegistry())
ADMIT = OwnEvents("vic", {"mine": "vic", "theirs": "bob"})

OWN: dict[str, dict[str, Any]] = {
    "PostCreated": {"post_id": "p", "author_id": "vic"},
    "PostEdited": {"post_id": "mine", "text": "better"},
    "PostDeleted": {"post_id": "mine"},
    "ProfileUpdated": {"user_id": "vic", "name": "Vic"},
    "FollowChanged": {"follower_id": "vic", "followee_id": "bob"},
    "BlockChanged": {"blocker_id": "vic", "blocked_id": "bob"},
    "MuteChanged": {"muter_id": "vic", "muted_id": "bob"},
    "Search": {"user_id": "vic", "query": "wheels"},
    "Impression": {"viewer_id": "vic", "post_id": "theirs"},
    "Engagement": {"viewer_id": "vic", "post_id": "theirs", "action": "like"},
}
OTHERS: dict[str, dict[str, Any]] = {
    "PostCreated": {"post_id": "p", "author_id": "bob"},
    "PostEdited": {"post_id": "theirs", "text": "worse"},
    "PostDeleted": {"post_id": "theirs"},
    "ProfileUpdated": {"user_id": "bob", "name": "Vic"},
    "FollowChanged": {"follower_id": "bob", "followee_id": "vic"},
    "BlockChanged": {"blocker_id": "bob", "blocked_id": "vic"},
    "MuteChanged": {"muter_id": "bob", "muted_id": "vic"},
    "Search": {"user_id": "bob", "query": "wheels"},
    "Impression": {"viewer_id": "bob", "post_id": "mine"},
    "Engagement": {"viewer_id": "bob", "post_id": "mine", "action": "like"},
}
NEVER: dict[str, dict[str, Any]] = {
    "PostAnnotated": {"post_id": "mine", "producer": "vic"},
    "LabelChanged": {"label": "unsafe", "user_id": "vic"},
    "CountsObserved": {"post_id": "mine", "counts": {"like": 9}},
    "UserErased": {"user_id": "vic"},
    "ClockTick": {"now_ms": 5},
    "EditorialPicked": {"post_id": "mine"},
    "Served": {"request_id": "r", "viewer_id": "vic", "pipeline": "home"},
    "FeaturesLogged": {"request_id": "r", "viewer_id": "vic", "pipeline": "home", "schema": "s", "arrays": ""},
    "CandidatesLogged": {"request_id": "r", "viewer_id": "vic", "pipeline": "home", "schema": "s", "arrays": ""},
    "NearLineUpdated": {"model": "v1", "n_slots": 64, "arrays": ""},
    "ModelWithdrawn": {"kind": "ranker", "version": "v1", "guard": "auc", "reason": "worse"},
    "TrafficFlagged": {
        "viewer_id": "vic",
        "client": "viewer/vic",
        "reason": "burst",
        "events": ["e1"],
        "value": 6,
        "limit": 5,
    },
    "SamplesJoined": {"request": 1, "viewer": 2, "epoch": 1, "page_offset": 0, "page_ms": 5, "rows": ""},
}


def event(kind: str, payload: dict[str, Any], event_id: str = "e1") -> AnyEvent:
    body = {"event_id": event_id, "event_time_ms": 5, "source": "importer/x", "payload": {"type": kind, **payload}}
    return CODEC.from_object(body)


def test_every_type_is_in_one_of_these_lists() -> None:
    assert {kind.name for kind in BUILT_IN} == {*OWN, *NEVER}
    assert OWN.keys() == OTHERS.keys()
    assert not OWN.keys() & NEVER.keys()


@pytest.mark.parametrize("kind", OWN)
def test_a_viewers_own_event_is_admitted_as_it_is(kind: str) -> None:
    sent = event(kind, OWN[kind])
    admitted = ADMIT(sent)
    assert admitted.payload == sent.payload
    assert admitted.event_time_ms == 5
    assert admitted.source == "viewer"


@pytest.mark.parametrize("kind", OTHERS)
def test_somebody_elses_is_refused(kind: str) -> None:
    with pytest.raises(ForbiddenError, match=rf"{kind}\..*'bob': is somebody else's"):
        ADMIT(event(kind, OTHERS[kind]))


@pytest.mark.parametrize("kind", [kind.name for kind in BUILT_IN if kind.name not in OWN])
def test_every_other_type_is_not_for_viewers(kind: str) -> None:
    with pytest.raises(ForbiddenError, match=f"event type '{kind}': is not for viewers"):
        ADMIT(event(kind, NEVER[kind]))


class Purchase(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    viewer_id: str


def test_the_operators_own_types_are_not_for_viewers() -> None:
    with pytest.raises(ForbiddenError, match="event type 'Purchase': is not for viewers"):
        ADMIT(an_event(Purchase(viewer_id="vic")))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["PostEdited", "PostDeleted"])
def test_a_post_that_nobody_knows_cannot_be_changed(kind: str) -> None:
    with pytest.raises(ForbiddenError, match="post id 'unknown': not a post that is known"):
        ADMIT(event(kind, {"post_id": "unknown"}))


@pytest.mark.parametrize("is_verified", [True, False])
def test_nobody_verifies_themselves(is_verified: bool) -> None:
    with pytest.raises(ForbiddenError, match="is_verified"):
        ADMIT(event("ProfileUpdated", {"user_id": "vic", "is_verified": is_verified}))


def test_an_event_id_is_its_viewers_own() -> None:
    first, second = event("Search", OWN["Search"], "e1"), event("Search", OWN["Search"], "e2")
    bob = OwnEvents("bob", {})(event("Search", OTHERS["Search"], "e1"))
    assert ADMIT(first).event_id == ADMIT(first).event_id
    assert len({ADMIT(first).event_id, ADMIT(second).event_id, bob.event_id, "e1", "e2"}) == 5


def test_posts_to_look_up_are_found_in_any_line() -> None:
    lines = [
        b'{"payload": {"type": "PostEdited", "post_id": 42}}',
        b'{"payload": {"post_id": "a", "type": "PostDeleted"}}',
        b'{"payload": {"type": "PostDeleted", "post_id": "a"}}',
        b'{"payload": {"type": "PostCreated", "post_id": "b", "text": "PostEdited"}}',
        b'{"payload": {"type": "PostEdited", "post_id": ""}}',
        b'{"payload": "PostEdited"}',
        b"PostEdited",
        b'{"payload": {"type": "PostEdited", "post_id": "\xff"}}',
        b"[" * 100_000 + b"PostEdited",
        b"",
    ]
    assert edited_posts(lines) == ["42", "a"]


def test_what_a_viewer_may_not_send_is_told_and_not_kept() -> None:
    clock = ManualClock(1)
    log = MemoryLog(clock)
    collector = Collector(log, CODEC, clock)
    payloads = [{"type": "Search", **OWN["Search"]}, {"type": "Search", **OTHERS["Search"]}, {"type": "Nonsense"}]
    lines = [msgspec.json.encode({"event_id": f"e{n}", "payload": payload}) for n, payload in enumerate(payloads)]
    receipt = collector.submit_json([*lines, b"{"], "http", ADMIT)
    assert [result.status for result in receipt] == ["accepted", "refused", "refused", "refused"]
    assert receipt[1].event_id == "e1"
    assert "somebody else's" in receipt[1].error
    assert list(log.dead_letters()) == []
    assert collector.submit_json(lines[:1], "http", ADMIT)[0].status == "duplicate"
    # The same id, from somebody who is trusted, is another event.
    assert collector.submit_json(lines[:1], "http")[0].status == "accepted"
