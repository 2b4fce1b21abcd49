import json

from millrace.base.clock import ManualClock
from millrace.events.codec import EventCodec
from millrace.events.envelope import Event, Payload
from millrace.events.feed_events import Engagement
from millrace.events.registry import EventRegistry, EventType
from millrace.stream.checks import message_of
from millrace.stream.collector import Collector
from millrace.stream.dead_letters import replay_dead_letters
from millrace.stream.memory_log import MemoryLog

REFUSED_MS = 5_000


class Purchase(Payload, frozen=True, kw_only=True):
    """A type that the operator forgot to declare at first."""

    buyer_id: str


OLD = EventCodec(EventRegistry())
NEW = EventCodec(EventRegistry([EventType(Purchase, "events.purchase", key="buyer_id")]))


def a_purchase(**fields: object) -> bytes:
    return json.dumps({"payload": {"type": "Purchase", "buyer_id": "b"}, **fields}).encode()


def a_log_with_letters(*lines: bytes) -> MemoryLog:
    log = MemoryLog(ManualClock(REFUSED_MS))
    assert Collector(log, OLD, ManualClock(REFUSED_MS)).submit_json(lines, "shop").n_refused == len(lines)
    return log


def test_letters_go_in_once_their_cause_is_repaired() -> None:
    log = a_log_with_letters(a_purchase(event_id="e1"), b"{never", a_purchase())
    report = replay_dead_letters(log, NEW)
    assert report.replayed == (1, 3)
    assert (report.duplicates, report.missing) == ((), ())
    ((letter_id, reason),) = report.refused
    assert letter_id == 2
    assert "not valid JSON" in reason
    assert [letter.letter_id for letter in log.dead_letters()] == [2]
    events = [NEW.decode(data) for data in log.subscribe("g").poll(9).data]
    assert [(event.source, event.event_time_ms) for event in events] == [("shop", REFUSED_MS)] * 2


def test_only_the_letters_named_are_replayed() -> None:
    log = a_log_with_letters(a_purchase(event_id="e1"), a_purchase(event_id="e2"))
    report = replay_dead_letters(log, NEW, [2, 77])
    assert (report.replayed, report.missing) == ((2,), (77,))
    assert [letter.letter_id for letter in log.dead_letters()] == [1]


def test_a_letter_whose_event_came_in_otherwise_is_removed_as_a_duplicate() -> None:
    log = a_log_with_letters(a_purchase(event_id="e1"))
    Collector(log, NEW, ManualClock()).submit_json([a_purchase(event_id="e1")], "shop")
    assert replay_dead_letters(log, NEW).duplicates == (1,)
    assert list(log.dead_letters()) == []
    assert log.end() == (1,)


def test_replaying_again_after_a_crash_between_append_and_removal_doubles_nothing() -> None:
    log = a_log_with_letters(a_purchase())
    (letter,) = log.dead_letters()
    replay_dead_letters(log, NEW)
    log.dead_letter([(letter.topic, letter.origin, letter.reason, letter.data)])
    assert replay_dead_letters(log, NEW).duplicates == (2,)
    assert log.end() == (1,)


def test_what_a_group_refused_goes_in_again_under_an_id_of_its_own() -> None:
    log = MemoryLog(ManualClock())
    payload = Engagement(viewer_id="v", post_id="p", action="like")
    message = message_of(Event(event_id="e1", event_time_ms=7, source="web", payload=payload), OLD)
    log.append([message])
    log.dead_letter([(message.topic, "group/keeper", "a fold failed", message.data)])
    assert replay_dead_letters(log, OLD).replayed == (1,)
    first, second = (OLD.decode(data) for data in log.subscribe("g").poll(9).data)
    assert (second.event_id, second.event_time_ms, second.payload) == ("letter-1", 7, first.payload)


def test_what_a_group_refused_and_nobody_can_read_stays() -> None:
    log = MemoryLog(ManualClock())
    log.dead_letter([("events.post", "group/keeper", "unreadable", b"\xc1")])
    ((letter_id, reason),) = replay_dead_letters(log, OLD).refused
    assert letter_id == 1
    assert "logged event" in reason
    assert len(list(log.dead_letters())) == 1


def test_many_letters_are_replayed_in_batches() -> None:
    log = a_log_with_letters(*(a_purchase(event_id=f"e{i}") for i in range(600)))
    assert len(replay_dead_letters(log, NEW).replayed) == 600
    assert list(log.dead_letters()) == []
    assert log.end() == (600,)
