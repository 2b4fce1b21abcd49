"""The codec: what the door accepts, brings to one form, and refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from millrace.base.actions import ActionSpace
from millrace.base.errors import SchemaError
from millrace.events.codec import EventCodec
from millrace.events.content_events import PostCreated
from millrace.events.feed_events import Engagement
from millrace.events.registry import EventRegistry

CODEC = EventCodec(EventRegistry(), ActionSpace(("purchase",)))


def decode(payload: dict[str, Any], **envelope: Any) -> Any:
    raw = {"event_time_ms": 1_000, **envelope, "payload": payload}
    return CODEC.decode_json(msgspec.json.encode(raw))


def refusal(payload: Any, **envelope: Any) -> str:
    with pytest.raises(SchemaError) as caught:
        decode(payload, **envelope)
    return str(caught.value)


POST = {"type": "PostCreated", "post_id": "p", "author_id": "a"}
LIKE = {"type": "Engagement", "viewer_id": "v", "post_id": "p", "action": "like"}


def test_numbers_and_decomposed_text_become_canonical_ids() -> None:
    event = decode({**POST, "post_id": 42, "author_id": "cafe\u0301", "parent_id": 7, "kind": "reply"})
    assert event.payload == PostCreated(post_id="42", author_id="café", parent_id="7", kind="reply")


def test_the_same_event_without_an_id_has_the_same_id_twice() -> None:
    assert decode(LIKE).event_id == decode(LIKE).event_id
    assert decode(LIKE).event_id.startswith("c-")
    assert decode(LIKE).event_id != decode({**LIKE, "post_id": "q"}).event_id


def test_a_given_event_id_is_kept() -> None:
    assert decode(LIKE, event_id=17).event_id == "17"


def test_source_and_time_have_defaults() -> None:
    event = CODEC.decode_json(msgspec.json.encode({"payload": LIKE}), default_source="web", now_ms=5)
    assert (event.source, event.event_time_ms) == ("web", 5)


def test_a_business_action_carries_an_amount() -> None:
    event = decode({**LIKE, "action": "purchase", "amount": 9.5})
    assert event.payload == Engagement(viewer_id="v", post_id="p", action="purchase", amount=9.5)
    assert "like has none" in refusal({**LIKE, "amount": 1.0})


def test_observed_counts_may_name_any_action_and_impressions() -> None:
    counts = {"like": 1, "dwell": 2, "purchase": 3, "impression": 4}
    assert decode({"type": "CountsObserved", "post_id": "p", "counts": counts}).payload.counts == counts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "payload"),
        (b'{"payload": []}', "payload"),
        (b'{"payload": {"type": "Nonsense"}}', "event type 'Nonsense': not known"),
        (b'{"payload": {}}', "event type: not known"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(data: bytes, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        CODEC.decode_json(data, now_ms=1)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({**POST, "post_id": ""}, "post_id '': 0 bytes long"),
        ({**POST, "post_id": True}, "post_id True: not text or a whole number"),
        ({"type": "PostCreated", "post_id": "p"}, "author_id"),
        ({**POST, "kind": "poem"}, "poem"),
        ({**POST, "kind": "reply"}, "does not fit kind 'reply'"),
        ({**POST, "parent_id": "q"}, "does not fit kind 'original'"),
        ({**POST, "kind": "repost", "parent_id": "p"}, "is the post itself"),
        ({**POST, "text": 5}, "text"),
        ({**LIKE, "action": "applaud"}, "action 'applaud': not known"),
        ({**LIKE, "action": "dwell"}, "derived from impressions"),
        ({"type": "CountsObserved", "post_id": "p", "counts": {"like": 1, "thumbs": 2}}, "counts 'thumbs': not known"),
        ({"type": "LabelChanged", "label": "spam"}, "not exactly one"),
        ({"type": "LabelChanged", "label": "spam", "post_id": "p", "user_id": "u"}, "not exactly one"),
        ({"type": "MuteChanged", "muter_id": "v"}, "not exactly one"),
        ({"type": "Impression", "viewer_id": "v", "post_id": "p", "dwell_ms": -1}, "dwell_ms"),
    ],
)
def test_a_payload_that_makes_no_sense_is_refused_with_the_field(payload: dict[str, Any], message: str) -> None:
    assert message in refusal(payload)


@pytest.mark.parametrize("time_ms", [-1, 1 << 53, "now", 1.5, None])
def test_event_time_is_epoch_milliseconds(time_ms: object) -> None:
    assert "event_time_ms" in refusal(LIKE, event_time_ms=time_ms)


def test_bytes_that_are_no_logged_event_are_refused() -> None:
    with pytest.raises(SchemaError, match="logged event"):
        CODEC.decode(b"\x00\x01")


def test_the_json_schema_describes_every_type_and_ids_as_text_or_number() -> None:
    schema = CODEC.json_schema()
    assert {kind.name for kind in CODEC.registry} <= set(schema["$defs"])
    assert schema["$defs"]["PostCreated"]["properties"]["post_id"]["type"] == ["string", "integer"]
