import inspect

import pytest

from millrace.events.codec import EventCodec, check_meaning
from millrace.events.envelope import AnyEvent
from millrace.events.registry import EventRegistry
from millrace.testing import builders

CODEC = EventCodec(EventRegistry())
BUILDERS = [
    function
    for name, function in inspect.getmembers(builders, inspect.isfunction)
    if name.startswith("a") and name not in ("an_event", "a_batch_of", "a_video")
]


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_a_built_event_is_valid_and_survives_both_codecs(builder: object) -> None:
    event: AnyEvent = builder()  # type: ignore[operator]
    check_meaning(event.payload, CODEC.actions)
    assert CODEC.decode(CODEC.encode(event)) == event
    assert CODEC.decode_json(CODEC.encode_json(event)) == event


def test_there_is_a_builder_for_every_built_in_type() -> None:
    built = {type(builder().payload) for builder in BUILDERS}
    assert built == {event_type.payload for event_type in EventRegistry()}


def test_two_built_events_are_never_the_same_event() -> None:
    assert builders.an_engagement().event_id != builders.an_engagement().event_id
