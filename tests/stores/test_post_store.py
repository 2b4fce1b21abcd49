"""What `PostStore` takes in, keeps and lets go, rule by rule."""

from __future__ import annotations

import numpy as np

from millrace.stores.post_changes import KIND_CODES
from millrace.stores.post_store import PostColumns
from millrace.testing.builders import (
    NOW_MS,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_user_erased,
    a_video,
)
from millrace.testing.small_posts import (
    HASHER,
    SMALL_POSTS,
    a_store,
    a_store_with,
    assert_same_arrays,
    fold,
    ids,
    newest,
    small_posts,
    user,
)


def test_a_time_from_the_future_is_bounded_by_the_append() -> None:
    store, codes = a_store()
    fold(store, codes, a_post_created(1, "a", at_ms=NOW_MS + 10**9), appended_ms=NOW_MS)
    fold(store, codes, a_post_created(2, "a", created_at_ms=NOW_MS + 10**9), appended_ms=NOW_MS + 1)
    assert store.gather(store.find(HASHER.posts(["1", "2"]))).created_ms.tolist() == [NOW_MS, NOW_MS + 1]


def test_each_class_keeps_its_newest_and_evicted_posts_free_their_rows() -> None:
    events = [a_post_created(i, "a", at_ms=NOW_MS + i) for i in range(10)]
    store = a_store_with(*events)
    assert newest(store, "a") == ids(9, 8, 7)
    assert store.n_posts == 3
    assert store._posts.n_used <= 4


def test_a_late_post_older_than_a_full_ring_is_not_taken_in() -> None:
    store = a_store_with(*(a_post_created(i, "a", at_ms=NOW_MS + i) for i in (5, 6, 7)), a_post_created(1, "a"))
    assert newest(store, "a", now_ms=NOW_MS + 9) == ids(7, 6, 5)
    assert store.find(HASHER.posts(["1"])).tolist() == [-1]


def test_a_video_outlives_its_kind_ring_in_the_ring_of_videos() -> None:
    video = a_post_created("v", "a", media=(a_video(9_000),), at_ms=NOW_MS)
    store = a_store_with(video, *(a_post_created(i, "a", at_ms=NOW_MS + i) for i in (1, 2, 3)))
    assert newest(store, "a", now_ms=NOW_MS + 9) == ids(3, 2, 1)
    assert newest(store, "a", now_ms=NOW_MS + 9, only_videos=True) == ids("v")


def test_the_first_creation_of_an_id_wins() -> None:
    store = a_store_with(a_post_created(1, "a"), a_post_created(1, "b"))
    assert newest(store, "a", "b") == ids(1)
    assert newest(store, "b") == []


def test_a_late_creation_does_not_bring_a_deleted_post_back_until_retention_is_over() -> None:
    store, codes = a_store()
    fold(store, codes, a_post_deleted(1), a_post_created(1, "a"))
    assert store.n_posts == 0
    assert store.is_deleted(HASHER.posts(["1", "2"])).tolist() == [True, False]
    store.tick(NOW_MS + SMALL_POSTS.post_retention_ms + 1)
    assert store.is_deleted(HASHER.posts(["1"])).tolist() == [False]
    fold(store, codes, a_post_created(1, "a"))
    assert store.n_posts == 0, "by then it is older than the retention"


def test_all_live_posts_can_be_looked_at() -> None:
    events = [a_post_created(i, "a" if i % 2 else "b", at_ms=NOW_MS + i) for i in range(4)]
    store = a_store_with(*events, a_post_deleted(2))
    assert sorted(store.post_ids(store.live()).tolist()) == sorted(ids(0, 1, 3))
    assert a_store()[0].live().tolist() == []


def test_deletions_free_their_space() -> None:
    store, codes = a_store()
    fold(store, codes, *(a_post_created(i, "a") for i in range(3)), *(a_post_deleted(i) for i in range(3)))
    assert store.n_posts == 0
    assert not store.arrays()["ids"].any()
    assert not store.arrays()["created_ms"].any()
    assert store._rings.counts().sum() == 0


def test_edits_take_effect_at_once() -> None:
    store, codes = a_store()
    fold(store, codes, a_post_created(1, "a"), a_post_edited(1, is_sensitive=True, media=(a_video(7_000),)))
    found = store.gather(store.find(HASHER.posts(["1"])))
    assert (found.is_sensitive[0], found.has_video[0], found.duration_ms[0]) == (True, True, 7_000)
    assert newest(store, "a", only_videos=True) == ids(1)
    fold(store, codes, a_post_edited(1, media=()))
    assert newest(store, "a", only_videos=True) == []
    assert store.gather(store.find(HASHER.posts(["1"]))).is_sensitive.tolist() == [True]


def test_a_tick_trims_one_slice_of_the_authors() -> None:
    config = small_posts(n_trim_slices=5)
    store, codes = a_store(config)
    fold(store, codes, *(a_post_created(i, f"author{i}") for i in range(10)))
    late = NOW_MS + config.post_retention_ms + 1
    left = []
    for _ in range(5):
        store.tick(late)
        left.append(store.n_posts)
    assert left == [8, 6, 4, 2, 0]
    assert store.n_authors == 0
    assert store._rings.slab.rows.any() == False  # noqa: E712 - a NumPy bool


def test_a_ring_that_was_trimmed_empty_is_read_as_empty() -> None:
    store, codes = a_store()
    young_ms = NOW_MS + SMALL_POSTS.post_retention_ms + 5
    fold(
        store,
        codes,
        a_post_created(1, "a"),
        a_post_created(2, "a", kind="repost", parent_id=9, parent_author_id="b", at_ms=young_ms),
    )
    store.tick(young_ms)
    assert newest(store, "a", now_ms=young_ms) == ids(2)
    assert np.count_nonzero(store.arrays()["newest_ms"]) == 1


def test_an_erased_author_leaves_nothing_behind() -> None:
    store, codes = a_store()
    fold(
        store,
        codes,
        a_post_created(1, "gone", media=(a_video(),)),
        a_post_created(2, "a", kind="quote", parent_id=1),
        a_user_erased("gone"),
        a_post_created(1, "gone"),
    )
    assert store.n_posts == 1
    for name, array in store.arrays().items():
        assert user("gone") not in array.reshape(-1).tolist(), name


def test_topics_and_language_are_kept_as_codes_and_absent_fields_stay() -> None:
    store, codes = a_store()
    fold(
        store,
        codes,
        a_post_created(1, "a"),
        a_post_annotated(1, language="en-GB", topics=("Music", "sport", "music", "news", "cats")),
        a_post_annotated(1, topics=None),
    )
    found = store.gather(store.find(HASHER.posts(["1"])))
    assert codes.languages.name(int(found.language[0])) == "en"
    assert [codes.topics.name(code) for code in found.topics[0].tolist()] == ["music", "sport", "news"]
    fold(store, codes, a_post_annotated(1, topics=()))
    assert store.gather(store.find(HASHER.posts(["1"]))).topics.tolist() == [[0, 0, 0]]


def test_columns_ingested_at_once_equal_the_same_events() -> None:
    events = [
        a_post_created(
            i,
            f"a{i % 7}",
            kind="reply" if i % 3 == 1 else "original",
            parent_id=i - 1 if i % 3 == 1 else None,
            media=(a_video(i),) if i % 4 == 0 else (),
            is_sensitive=i % 5 == 0,
            at_ms=NOW_MS + i * 37 % 100,
        )
        for i in range(300)
    ]
    store = a_store_with(*events)
    payloads = [event.payload for event in events]
    columns = PostColumns(
        post_id=HASHER.posts(p.post_id for p in payloads),
        author_id=HASHER.users(p.author_id for p in payloads),
        created_ms=np.array([event.event_time_ms for event in events]),
        kind=np.array([KIND_CODES[p.kind] for p in payloads], dtype=np.int8),
        parent_id=HASHER.posts(p.parent_id or "" for p in payloads),
        parent_author_id=np.zeros(300, dtype=np.int64),
        conversation_id=np.zeros(300, dtype=np.int64),
        has_video=np.array([bool(p.media) for p in payloads]),
        duration_ms=np.array([p.media[0].duration_ms if p.media else 0 for p in payloads], dtype=np.int32),
        is_sensitive=np.array([p.is_sensitive for p in payloads]),
        language=np.zeros(300, dtype=np.int32),
        topics=np.zeros((300, 3), dtype=np.int32),
    )
    ingested, _ = a_store()
    ingested.ingest(columns)
    assert_same_arrays(store, ingested)
