from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Impression, Served
from millrace.events.user_events import UserErased
from millrace.stores.engagement_config import HOUR_MS, SeenConfig
from millrace.stores.seen import SeenStore
from millrace.testing import strategies as events_st
from millrace.testing.builders import NOW_MS, a_batch_of, a_served, a_user_erased, an_impression

HASHER = IdHasher()
SMALL = SeenConfig(max_seen=3, max_served=5, seen_ttl_ms=6 * HOUR_MS, served_ttl_ms=HOUR_MS)
LATER_MS = NOW_MS + events_st.SPAN_MS


def user(text: object) -> int:
    return hash_id(IdKind.USER, str(text))


def posts(*texts: object) -> list[int]:
    return [hash_id(IdKind.POST, str(text)) for text in texts]


def a_store(events: Sequence[AnyEvent], config: SeenConfig = SMALL) -> SeenStore:
    store = SeenStore(config, HASHER)
    if events:
        store.apply(a_batch_of(events))
    return store


class Model:
    """Ordered dicts of post to time, cut to their newest."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, int]] = {}
        self.served: dict[str, dict[str, int]] = {}

    def apply(self, event: AnyEvent) -> None:
        payload = event.payload
        if isinstance(payload, Impression):
            self._put(self.seen, payload.viewer_id, payload.post_id, event.event_time_ms, SMALL.max_seen)
        elif isinstance(payload, Served):
            for item in payload.items:
                self._put(self.served, payload.viewer_id, item.post_id, event.event_time_ms, SMALL.max_served)
        else:
            self.seen.pop(payload.user_id, None)
            self.served.pop(payload.user_id, None)

    @staticmethod
    def _put(rings: dict[str, dict[str, int]], viewer: str, post: str, at_ms: int, max_len: int) -> None:
        ring = rings.setdefault(viewer, {})
        ring[post] = max(at_ms, ring.pop(post, 0))
        while len(ring) > max_len:
            del ring[next(iter(ring))]


sequences = events_st.event_sequences((Impression, Served, UserErased), max_size=60)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), events=sequences)
def test_agrees_with_the_naive_model_however_the_log_is_cut(data: st.DataObject, events: list[AnyEvent]) -> None:
    whole, pieces, model = a_store(events), a_store([]), Model()
    events_st.apply_cut(pieces.apply, events, data.draw(events_st.cuts(len(events))))
    for event in events:
        model.apply(event)
    for viewer in events_st.USERS:
        want = [p for p, at_ms in model.seen.get(viewer, {}).items() if LATER_MS - at_ms < SMALL.seen_ttl_ms]
        assert whole.seen(user(viewer), LATER_MS).tolist() == posts(*want)
        want = [p for p, at_ms in model.served.get(viewer, {}).items() if LATER_MS - at_ms < SMALL.served_ttl_ms]
        assert whole.served(user(viewer), LATER_MS).tolist() == posts(*want)
    for (name, left), right in zip(whole.arrays().items(), pieces.arrays().values(), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def test_seen_posts_run_out_by_the_readers_clock() -> None:
    store = a_store([an_impression(20, 1), an_impression(20, 2, at_ms=NOW_MS + HOUR_MS)])
    assert store.seen(user(20), NOW_MS + 6 * HOUR_MS - 1).tolist() == posts(1, 2)
    assert store.seen(user(20), NOW_MS + 6 * HOUR_MS).tolist() == posts(2)
    assert store.seen(user(20), NOW_MS + 2 * HOUR_MS, ttl_ms=HOUR_MS).tolist() == []


def test_a_post_seen_again_moves_to_the_newest_place() -> None:
    store = a_store([an_impression(20, post_id) for post_id in (1, 2, 1, 3, 4)])
    assert store.seen(user(20), NOW_MS).tolist() == posts(1, 3, 4)


def test_served_and_seen_are_kept_apart() -> None:
    store = a_store([a_served(20, (1, 2)), an_impression(20, 3)])
    assert store.served(user(20), NOW_MS).tolist() == posts(1, 2)
    assert store.seen(user(20), NOW_MS).tolist() == posts(3)
    assert store.seen(user(99), NOW_MS).tolist() == []


def test_an_erased_viewer_stands_in_no_array() -> None:
    store = a_store([an_impression(20, 1), a_served(20, (2,)), a_user_erased(20), an_impression(21, 3)])
    assert store.n_viewers == 1
    assert store.seen(user(20), NOW_MS).tolist() == []
    gone = {user(20), *posts(1, 2)}
    assert not any(np.isin(array, list(gone)).any() for array in store.arrays().values())


def test_many_viewers_grow_the_arrays_and_survive_a_checkpoint() -> None:
    events = [an_impression(viewer, post_id) for viewer in range(300) for post_id in range(9)]
    store = a_store(events, SeenConfig(max_seen=8))
    again = SeenStore(SeenConfig(max_seen=8), HASHER)
    again.load({name: array.copy() for name, array in store.arrays().items()})
    again.apply(a_batch_of([an_impression(5, 77)]))
    assert store.seen(user(299), NOW_MS).tolist() == posts(*range(1, 9))
    assert again.seen(user(5), NOW_MS).tolist() == posts(*range(2, 9), 77)
