"""Only what labels are made of is decoded: the same columns as from whole events, whatever else is in the log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from millrace.base.ids import IdHasher
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import CandidatesLogged
from millrace.events.packed import pack_arrays
from millrace.flywheel.join import hear_event
from millrace.flywheel.join_columns import JoinBuffer, JoinColumns
from millrace.flywheel.join_records import JoinRecords, logged_posts
from millrace.flywheel.sample_tables import LoggedPages
from millrace.stream.log import RecordBatch
from millrace.testing.builders import NOW_MS, a_features_logged, a_post_created, a_served, an_engagement, an_impression
from millrace.testing.join_house import CODEC, messages_of
from millrace.testing.join_traffic import Traffic, traffic


def a_batch(events: Sequence[AnyEvent], extra: Sequence[tuple[str, bytes]] = ()) -> RecordBatch:
    rows = [(m.topic, m.data) for m in messages_of(events)] + list(extra)
    names = tuple(sorted({topic for topic, _ in rows}))
    n = len(rows)
    return RecordBatch(
        offsets=np.arange(100, 100 + n),
        appended_ms=np.full(n, NOW_MS + 60_000),
        topics=np.array([names.index(topic) for topic, _ in rows], dtype=np.int16),
        topic_names=names,
        data=tuple(data for _, data in rows),
        end=(100 + n,),
    )


def by_event(batch: RecordBatch, n: int) -> JoinColumns:
    """Return the columns of the first records as the join itself makes them of decoded events."""
    buffer, hasher = JoinBuffer(), IdHasher()
    for offset, data in zip(batch.offsets[:n].tolist(), batch.data, strict=False):
        event = CODEC.decode(data)
        hear_event(buffer, hasher, CODEC.actions, offset, min(event.event_time_ms, NOW_MS + 60_000), event)
    return buffer.take()


def test_columns_are_those_of_whole_events_and_what_cannot_be_read_is_left_out() -> None:
    events = [
        *traffic(Traffic(n_pages=12)),
        an_impression("é", "p", dwell_ms=0, at_ms=5),
        an_impression("v" * 120, "p", duration_ms=3, dwell_ms=3, event_id="i" * 120),
        an_engagement("v", "p", "like", is_undo=True),
        a_served("v", range(35)),
        a_post_created(1, 2),
        a_features_logged("v", [1, 2], request_id="rc", kind=CandidatesLogged),
    ]
    broken = [("events.impression", b""), ("events.engagement", b"\x81"), ("events.post", b"\xc1" * 70)]
    batch = a_batch(events, broken)
    records, pages = JoinRecords(CODEC, IdHasher(), CODEC.actions), LoggedPages()
    found, wanted = records.read(batch, pages), by_event(batch, len(events))
    # Candidates are no page: they only tell the time.
    for name in JoinColumns.__slots__:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    assert records.n_unreadable == 2
    assert len(pages) == int((found.kinds == 1).sum()) > 0
    assert pages.arrays[0] == next(e.payload.arrays for e in events if type(e.payload).__name__ == "FeaturesLogged")


def test_an_action_that_is_not_known_is_left_out() -> None:
    known = messages_of([an_engagement("v", "p", "like")])[0].data
    foreign = known.replace(b"\xa4like", b"\xa4lick")
    records = JoinRecords(CODEC, IdHasher(), CODEC.actions)
    assert len(records.read(a_batch([], [("events.engagement", foreign)]), LoggedPages())) == 0
    assert records.n_unreadable == 1


@pytest.mark.parametrize("n_before", [0, 1, 400, 5_000])
@pytest.mark.parametrize("n_posts", [0, 1, 35, 3_000])
def test_posts_are_found_wherever_they_stand_among_the_arrays(n_before: int, n_posts: int) -> None:
    posts = np.random.default_rng(1).integers(-(1 << 62), 1 << 62, n_posts)
    packed = pack_arrays({"h_posts": np.arange(n_before), "posts": posts, "dense": np.arange(99)})
    np.testing.assert_array_equal(logged_posts(packed), posts)
