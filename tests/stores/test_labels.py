import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.events.content_events import LabelChanged, PostDeleted
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import UserErased
from millrace.stores.codes import CodeTables
from millrace.stores.labels import MAX_LABELS, LabelStore
from millrace.testing import strategies as events_st
from millrace.testing.builders import NOW_MS, a_batch_of, a_label_changed, a_post_deleted, a_user_erased

HASHER = IdHasher()
POST_IDS = np.array([hash_id(IdKind.POST, text) for text in events_st.POSTS], dtype=np.int64)
USER_IDS = np.array([hash_id(IdKind.USER, text) for text in events_st.USERS], dtype=np.int64)


def a_store(events: list[AnyEvent], ends: list[int] | None = None) -> LabelStore:
    codes = CodeTables()
    store = LabelStore(HASHER, codes)
    for batch in events_st.batches(events, ends or [len(events)]):
        codes.apply(batch)
        store.apply(batch)
    return store


@settings(max_examples=60, deadline=None)
@given(data=st.data(), events=events_st.event_sequences((LabelChanged, PostDeleted, UserErased)))
def test_agrees_with_sets_of_labels_however_the_log_is_cut(data: st.DataObject, events: list[AnyEvent]) -> None:
    whole = a_store(events)
    pieces = a_store(events, data.draw(events_st.cuts(len(events))))
    model: dict[tuple[str, str], set[str]] = {}
    for event in events:
        payload = event.payload
        if isinstance(payload, UserErased):
            model.pop(("user", payload.user_id), None)
            continue
        if isinstance(payload, PostDeleted):
            model.pop(("post", payload.post_id), None)
            continue
        key = ("post", payload.post_id) if payload.post_id is not None else ("user", payload.user_id)
        labels = model.setdefault(key, set())
        labels.add(payload.label) if payload.is_set else labels.discard(payload.label)
    want = [whole.mask_of(model.get(("post", name), set())) for name in events_st.POSTS]
    assert whole.post_labels(POST_IDS).tolist() == want
    want = [whole.mask_of(model.get(("user", name), set())) for name in events_st.USERS]
    assert whole.user_labels(USER_IDS).tolist() == want
    for (name, left), right in zip(whole.arrays().items(), pieces.arrays().values(), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def test_masks_are_disjoint_per_label_and_unknown_labels_have_none() -> None:
    store = a_store([a_label_changed("spam", post_id="p1"), a_label_changed("gore", post_id="p1")])
    spam, gore = store.mask_of(["spam"]), store.mask_of(["gore"])
    assert spam & gore == 0
    assert store.post_labels(POST_IDS[:2]).tolist() == [spam | gore, 0]
    assert store.mask_of(["never seen"]) == 0
    assert store.post_labels(POST_IDS).dtype == np.uint64


def test_labels_beyond_the_last_bit_are_left_out() -> None:
    store = a_store([a_label_changed(f"label-{i}", post_id="p1") for i in range(MAX_LABELS + 5)])
    assert int(store.post_labels(POST_IDS[:1])[0]).bit_count() == MAX_LABELS


def test_many_labelled_ids_grow_the_arrays_and_survive_a_checkpoint() -> None:
    store = a_store([a_label_changed("spam", user_id=i) for i in range(100)])
    again = LabelStore(HASHER, store._codes)
    again.load({name: array.copy() for name, array in store.arrays().items()})
    again.apply(a_batch_of([a_user_erased(7)]))
    ids = np.array([hash_id(IdKind.USER, str(i)) for i in range(100)])
    assert (again.user_labels(ids) != 0).sum() == 99
    assert (store.user_labels(ids) != 0).all()


def test_a_deleted_post_has_no_labels() -> None:
    store = a_store(
        [a_label_changed("spam", post_id="p1"), a_label_changed("spam", post_id="p2"), a_post_deleted("p1")]
    )
    ids = HASHER.posts(["p1", "p2"])
    assert (store.post_labels(ids) != 0).tolist() == [False, True]


def test_labels_of_posts_that_the_retention_left_behind_are_let_go_and_of_accounts_stay() -> None:
    hour_ms = 3_600_000
    codes = CodeTables()
    store = LabelStore(HASHER, codes, retention_ms=10 * hour_ms)
    events = [a_label_changed("spam", post_id=i, at_ms=NOW_MS + i * hour_ms) for i in range(40)]
    events += [a_label_changed("gore", post_id=3, at_ms=NOW_MS + 39 * hour_ms), a_label_changed("spam", user_id=1)]
    for event in events:
        batch = a_batch_of([event], appended_ms=event.event_time_ms)
        codes.apply(batch)
        store.apply(batch)
    store.tick(NOW_MS + 40 * hour_ms)
    labelled = store.post_labels(HASHER.posts(map(str, range(40)))) != 0
    assert np.flatnonzero(labelled).tolist() == [3, *range(30, 40)]
    assert store.user_labels(HASHER.users(["1"])).tolist() == [store.mask_of(["spam"])]
    assert not store.arrays()["posts.ids"][11:].any()
