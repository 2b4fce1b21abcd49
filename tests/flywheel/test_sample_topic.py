"""Samples on the topic: read back as they were, and the newest revision of each, however often they come."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.base.errors import SchemaError
from millrace.events.sample_events import SamplesJoined
from millrace.flywheel.join_rows import JoinedRows
from millrace.flywheel.sample_topic import NewestSamples, rows_of, sample_messages
from millrace.testing.builders import NOW_MS
from millrace.testing.join_house import CODEC

N_ACTIONS = len(CODEC.actions)


def rows(*keys: tuple[int, int, int], likes: float = 1.0) -> JoinedRows:
    """Return rows of one viewer by (page, post, revision)."""
    pages, posts, revisions = (np.array(column, dtype=np.int64) for column in zip(*keys, strict=True))
    labels = np.zeros((len(keys), N_ACTIONS), dtype=np.float32)
    labels[:, 2] = likes * np.arange(len(keys))
    return JoinedRows(
        requests=pages * 100,
        viewers=pages * 0 - 7,
        posts=posts,
        page_offsets=pages,
        page_rows=posts.astype(np.int32),
        positions=posts * 0 - 1,
        revisions=revisions.astype(np.int32),
        labels=labels,
        page_ms=pages + NOW_MS,
        looked_ms=pages + NOW_MS + 1,
        rates=np.full(len(keys), 0.25, dtype=np.float32),
    )


def events(of: JoinedRows, epoch: int) -> list[SamplesJoined]:
    return [CODEC.decode(m.data).payload for m in sample_messages(of, epoch, NOW_MS, CODEC)]


def test_a_request_is_an_event_and_its_rows_come_back_as_they_were() -> None:
    sent = rows((5, 2, 0), (3, 9, 1), (5, 1, 0), (3, 8, 0))
    found = events(sent, epoch=4)
    assert [(event.page_offset, event.epoch) for event in found] == [(3, 4), (5, 4)]
    order = np.array([3, 1, 2, 0])
    for name in JoinedRows.__slots__:
        back = np.concatenate([getattr(rows_of(event, N_ACTIONS), name) for event in found])
        np.testing.assert_array_equal(back, getattr(sent, name)[order], err_msg=name)
    assert list(sample_messages(rows((1, 1, 0)).take(np.zeros(0, dtype=int)), 1, 0, CODEC)) == []


def test_the_same_epoch_has_the_same_ids_however_often_it_is_published() -> None:
    ids = [[m.event_id for m in sample_messages(rows((5, 2, 0), (3, 9, 1)), 4, at, CODEC)] for at in (1, 2)]
    assert ids == [["samples-4-3", "samples-4-5"]] * 2


def test_the_newest_revision_holds_in_whatever_order_they_come() -> None:
    (first,), (second,) = events(rows((5, 2, 0)), 1), events(rows((5, 2, 0), (5, 2, 1)), 3)
    for order in ([first, second], [second, first], [first, second, first, second]):
        newest = NewestSamples(N_ACTIONS)
        for event in order:
            newest.take(event)
        assert len(newest) == 1
        assert newest.rows().revisions.tolist() == [1]
        assert newest.rows().labels[0, 2] == 1.0
    assert len(newest.take(first)) == 0
    assert newest.forget_before(NOW_MS + 5) == 0
    assert newest.forget_before(NOW_MS + 6) == 1


def test_a_log_that_was_heard_anew_begins_revisions_anew() -> None:
    newest = NewestSamples(N_ACTIONS)
    for epoch, revision in ((2, 3), (7, 0)):
        newest.take(events(rows((5, 2, revision)), epoch)[0])
    assert newest.rows().revisions.tolist() == [0]


@pytest.mark.parametrize("damage", [{"rows": b"123"}, {"labels": b"12"}, {"labels": b"\xff" * 12}])
def test_damaged_events_are_refused(damage: dict[str, bytes]) -> None:
    event = SamplesJoined(request=1, viewer=2, epoch=1, page_offset=0, page_ms=5, **{"rows": b"", **damage})
    with pytest.raises(SchemaError, match="joined samples"):
        rows_of(event, N_ACTIONS)
