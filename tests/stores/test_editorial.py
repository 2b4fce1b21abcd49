"""The editorial pool: order, bounds, time; equal however the log is cut."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher
from millrace.events.envelope import AnyEvent
from millrace.stores.editorial import FOR_EVER, EditorialStore
from millrace.testing import strategies as events_st
from millrace.testing.builders import NOW_MS, a_batch_of, a_post_deleted, an_editorial_pick

HASHER = IdHasher()
HOUR_MS = 3_600_000


def a_store(*events: AnyEvent, max_picks: int = 4) -> EditorialStore:
    store = EditorialStore(HASHER, max_picks=max_picks, retention_ms=10 * HOUR_MS)
    store.apply(a_batch_of(events))
    return store


def picked(store: EditorialStore, now_ms: int = NOW_MS) -> list[str]:
    names = {key: text for text, key in zip("abcdefgh", HASHER.posts("abcdefgh").tolist(), strict=True)}
    return [names[key] for key in store.picks(now_ms).post_ids.tolist()]


def test_the_newest_pick_stands_first_and_a_post_once() -> None:
    store = a_store(an_editorial_pick("a"), an_editorial_pick("b"), an_editorial_pick("a", until_ms=NOW_MS + 5))
    assert picked(store) == ["a", "b"]
    assert store.picks(NOW_MS).until_ms.tolist() == [NOW_MS + 5, FOR_EVER]
    assert picked(store, NOW_MS + 5) == ["b"]


def test_what_is_taken_back_or_deleted_leaves() -> None:
    store = a_store(*map(an_editorial_pick, "abc"), an_editorial_pick("b", is_picked=False), a_post_deleted("c"))
    assert picked(store) == ["a"]
    assert not store.arrays()["rows"][1:].any()  # nothing is left behind
    store.apply(a_batch_of([a_post_deleted("a"), an_editorial_pick("h", is_picked=False)]))
    assert picked(store) == []


def test_where_there_are_too_many_the_oldest_pick_leaves() -> None:
    assert picked(a_store(*map(an_editorial_pick, "abcda"), an_editorial_pick("e"))) == ["e", "a", "d", "c"]


def test_what_is_over_by_the_watermark_is_let_go() -> None:
    store = a_store(
        an_editorial_pick("a", at_ms=NOW_MS - HOUR_MS),
        an_editorial_pick("b", until_ms=NOW_MS + HOUR_MS),
        an_editorial_pick("c", at_ms=NOW_MS + 3 * HOUR_MS),
    )
    store.tick(NOW_MS)
    assert len(store) == 3
    store.tick(NOW_MS + HOUR_MS)
    assert picked(store) == ["c", "a"]
    store.tick(NOW_MS + 9 * HOUR_MS)
    assert picked(store) == ["c"]


@settings(max_examples=60, deadline=None)
@given(events=events_st.event_sequences(EditorialStore.handles), data=st.data())
def test_agrees_with_a_list_and_batches_leave_no_trace(events: list[AnyEvent], data: st.DataObject) -> None:
    pool: dict[str, int] = {}
    for event in events:
        payload = event.payload
        pool.pop(payload.post_id, None)
        if getattr(payload, "is_picked", False):
            pool[payload.post_id] = FOR_EVER if payload.until_ms is None else payload.until_ms
            if len(pool) > 4:
                pool.pop(next(iter(pool)))
    whole, pieces = a_store(*events), a_store()
    events_st.apply_cut(pieces.apply, events, data.draw(events_st.cuts(len(events))))
    now_ms = NOW_MS + events_st.SPAN_MS // 2
    wanted = [post for post, until_ms in reversed(pool.items()) if until_ms > now_ms]
    assert whole.picks(now_ms).post_ids.tolist() == HASHER.posts(wanted).tolist()
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, pieces.arrays()[name])
