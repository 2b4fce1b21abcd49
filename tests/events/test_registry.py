"""The registry: which types exist, and how an operator adds one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.base.errors import ConfigError, SchemaError
from millrace.events.codec import EventCodec
from millrace.events.envelope import Payload, UserId
from millrace.events.feed_events import Served
from millrace.events.registry import EventRegistry, EventType

MODULE = """
from millrace.events.envelope import Payload, UserId
from millrace.events.registry import EventType

class SongPlayed(Payload, frozen=True, kw_only=True):
    user_id: UserId
    song: str

EVENT_TYPES = (EventType(SongPlayed, "events.song", key="user_id"),)
"""


class Tip(Payload, frozen=True, kw_only=True):
    """Somebody tipped an author."""

    giver_id: UserId


@pytest.fixture
def operator_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "radio_events.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "radio_events"
    sys.modules.pop("radio_events", None)


def test_an_operators_type_passes_the_codec_like_a_built_in_one(operator_module: str) -> None:
    registry = EventRegistry.from_modules([operator_module])
    codec = EventCodec(registry)
    line = b'{"event_time_ms": 1, "payload": {"type": "SongPlayed", "user_id": 7, "song": "Mill"}}'
    event = codec.decode_json(line)
    assert event.payload.user_id == "7"
    assert codec.decode(codec.encode(event)) == event
    assert registry.of(event.payload).topic == "events.song"
    assert registry.topics[-1] == "events.song"
    assert "SongPlayed" in codec.json_schema()["$defs"]


@pytest.mark.parametrize("name", ["no_such_module_at_all", "millrace.base.ids"])
def test_a_module_without_types_is_a_config_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"events\.modules"):
        EventRegistry.from_modules([name])


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        (EventType(Tip, "Events Tip"), "not dotted lower-case words"),
        (EventType(Tip, "events.tip", key="taker_id"), "key field 'taker_id' does not exist"),
        (EventType(Served, "events.served"), "declared twice"),
        (EventType(int, "events.tip"), "not a subclass"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_declaration_is_refused(declared: EventType, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        EventRegistry([declared])


def test_types_are_found_by_name_and_by_payload() -> None:
    registry = EventRegistry()
    assert registry.by_name("Served").is_internal
    assert "Served" in registry
    assert "Nonsense" not in registry
    with pytest.raises(SchemaError, match="event type 'Tip': not known"):
        registry.of(Tip(giver_id="a"))


def test_topics_are_listed_once() -> None:
    topics = EventRegistry().topics
    assert len(set(topics)) == len(topics)
    assert topics[0] == "events.post"


def test_what_happens_to_a_post_has_one_key_so_that_a_partitioned_log_keeps_its_order() -> None:
    of_posts = [kind for kind in EventRegistry() if kind.topic == "events.post"]
    assert {kind.key for kind in of_posts} == {"post_id"}
    assert {kind.name for kind in of_posts} == {"PostCreated", "PostEdited", "PostDeleted"}
