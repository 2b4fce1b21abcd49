"""The streaming pipeline says what the folded store says; a slow partition slows the producer, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.features.streaming.config import StreamingConfig
from millrace.features.streaming.routing import partition_of
from millrace.features.streaming.streaming_features import StreamingFeatures
from millrace.stores.codes import CodeTables
from millrace.stores.engagement_config import HOUR_MS, EngagementConfig
from millrace.stores.engagements import EngagementStore
from millrace.testing import strategies as events_st
from millrace.testing.builders import NOW_MS, a_batch_of, a_post_created, an_engagement

CONFIG = EngagementConfig(max_history=8, windows_ms=(HOUR_MS, 24 * HOUR_MS))
HASHER = IdHasher()
POSTS = np.array([hash_id(IdKind.POST, text) for text in events_st.POSTS], dtype=np.int64)
USERS = np.array([hash_id(IdKind.USER, text) for text in events_st.USERS], dtype=np.int64)
LATER_MS = NOW_MS + events_st.SPAN_MS + 600_000
"""Ahead of all events: windows of a partition end with the minute that its own events have reached."""
sequences = events_st.event_sequences(EngagementStore.handles, max_size=80)


@contextmanager
def pipeline(
    n_posts: int = 1, n_users: int = 1, max_batches: int = 64, *, has_threads: bool = False
) -> Iterator[StreamingFeatures]:
    config = StreamingConfig(
        n_post_partitions=n_posts, n_user_partitions=n_users, max_batches=max_batches, has_threads=has_threads
    )
    made = StreamingFeatures(CONFIG, HASHER, CodeTables(), streaming=config)
    try:
        yield made
    finally:
        made.close()


def folded(events: Sequence[AnyEvent]) -> EngagementStore:
    store = EngagementStore(CONFIG, HASHER, CodeTables())
    store.apply(a_batch_of(events))
    return store


def assert_same(made: StreamingFeatures, store: EngagementStore) -> None:
    made.drain()
    windows, counters = store.windows, store.counters
    assert made.post_windows(POSTS, LATER_MS).tobytes() == windows.read("posts", POSTS, LATER_MS).tobytes()
    assert made.post_counts(POSTS, LATER_MS).tobytes() == counters.post_counts(POSTS, LATER_MS).tobytes()
    for user in USERS.tolist():
        assert (
            made.user_windows(user, LATER_MS).tobytes()
            == windows.read("users", USERS[user == USERS], LATER_MS).tobytes()
        )
        for mine, other in zip(made.history(user), store.histories.history(user), strict=True):
            assert mine.tobytes() == other.tobytes()
    np.testing.assert_allclose(
        made.author_windows(USERS, LATER_MS), windows.read("authors", USERS, LATER_MS), rtol=1e-6
    )
    wanted = counters.author_counts(USERS, LATER_MS)
    np.testing.assert_allclose(made.author_counts(USERS, LATER_MS), wanted, rtol=1e-4, atol=1e-5)


@given(sequences, st.data())
@settings(max_examples=25, deadline=None)
def test_partitions_together_say_what_one_store_says(found: list[AnyEvent], data: st.DataObject) -> None:
    n_posts, n_users, has_threads = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(st.booleans())
    with pipeline(n_posts, n_users, has_threads=has_threads) as made:
        events_st.apply_cut(made.apply, found, data.draw(events_st.cuts(len(found))))
        assert_same(made, folded(found))


def test_a_checkpoint_and_the_rest_give_the_same_bytes_as_all_at_once() -> None:
    events = [a_post_created(1, author_id=10), *(an_engagement(user, 1, "like") for user in range(20, 60))]
    with pipeline(2, 2) as whole, pipeline(2, 2) as first, pipeline(2, 2) as second:
        whole.apply(a_batch_of(events))
        first.apply(a_batch_of(events[:17]))
        second.load({name: array.copy() for name, array in first.arrays().items()})
        second.apply(a_batch_of(events[17:]))
        mine, other = whole.arrays(), second.arrays()
        assert all(array.tobytes() == other[name].tobytes() for name, array in mine.items())


def test_a_checkpoint_of_other_partitions_is_refused() -> None:
    with pipeline(1, 1) as one, pipeline(2, 1) as two, pytest.raises(StoreError, match="other partitions"):
        two.load(one.arrays())


def test_a_full_queue_makes_the_producer_wait_and_loses_nothing() -> None:
    events = [a_post_created(1, author_id=10), *(an_engagement(user, 1, "like") for user in range(20, 40))]
    with pipeline(max_batches=2, has_threads=True) as made:
        slow = made.partitions[0]
        has_ended = threading.Event()

        def produce() -> None:
            for event in events:
                made.apply(a_batch_of([event]))
            has_ended.set()

        with slow.lock:  # it cannot go on: two batches wait, one is in its hands
            producer = threading.Thread(target=produce)
            producer.start()
            assert not has_ended.wait(0.2)
            assert slow.max_waiting <= 2
        producer.join()
        assert has_ended.is_set()
        assert_same(made, folded(events))


def test_without_a_thread_whoever_hands_over_applies_and_each_event_is_folded_once() -> None:
    with pipeline() as made:
        (only,) = made.partitions
        made.apply(a_batch_of([a_post_created(1, author_id=10), an_engagement(20, 1, "like")]))
        assert len(only.store.histories.history(hash_id(IdKind.USER, "20")).post_ids) == 1
        assert only.max_waiting == 0


def test_a_caller_that_applies_is_told_of_a_failure_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_ops: object) -> None:
        raise MemoryError

    with pipeline() as made:
        monkeypatch.setattr(made.partitions[0].store, "apply_operations", fail)
        with pytest.raises(StoreError, match="all 0"):
            made.apply(a_batch_of([an_engagement(20, 1, "like")]))


def test_a_partition_that_failed_says_so_to_whoever_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_ops: object) -> None:
        raise MemoryError

    with pipeline(1, 2, has_threads=True) as made:
        monkeypatch.setattr(made.partitions[0].store, "apply_operations", fail)
        made.apply(a_batch_of([an_engagement(20, 1, "like")]))
        with pytest.raises(StoreError, match="posts 0"):
            made.drain()
        with pytest.raises(StoreError, match="checkpoint"):
            made.apply(a_batch_of([an_engagement(20, 1, "like")]))


def test_keys_spread_over_partitions() -> None:
    keys = np.array([hash_id(IdKind.USER, str(i)) for i in range(3_000)], dtype=np.int64)
    assert np.bincount(partition_of(keys, 3), minlength=3).min() > 900
