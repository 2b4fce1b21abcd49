"""Reading the post store: order, age, the rule of replies, rows and ids as callers have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import StoreError
from millrace.stores.config import StoresConfig
from millrace.stores.post_reads import TIMELINE_RINGS, merge_newest_reference
from millrace.stores.post_store import PostColumns
from millrace.testing.builders import (
    NOW_MS,
    a_post_created,
)
from millrace.testing.small_posts import (
    HASHER,
    a_store,
    a_store_with,
    ids,
    newest,
    post,
    user,
)


def test_newest_first_with_ties_by_id() -> None:
    store = a_store_with(
        a_post_created(1, "a", at_ms=NOW_MS - 3),
        a_post_created(2, "b", at_ms=NOW_MS - 1),
        a_post_created(3, "a", at_ms=NOW_MS - 2),
        a_post_created(4, "b", at_ms=NOW_MS - 2),
    )
    tied = sorted(ids(3, 4))
    assert newest(store, "a", "b") == [post(2), *tied, post(1)]
    assert newest(store, "a", "b", max_posts=2) == [post(2), tied[0]]
    assert newest(store, "a", "b", max_posts=0) == []


def test_repeated_unknown_and_zero_authors_are_ignored() -> None:
    store = a_store_with(a_post_created(1, "a"))
    who = np.array([user("a"), 0, user("a"), user("nobody")], dtype=np.int64)
    rows = store.newest(who, viewer_id=1, now_ms=NOW_MS, max_age_ms=10, max_posts=9)
    assert store.gather(rows).post_id.tolist() == ids(1)


def test_age_is_judged_by_the_clock_of_the_request() -> None:
    store = a_store_with(a_post_created(1, "a", at_ms=NOW_MS - 10), a_post_created(2, "a", at_ms=NOW_MS - 5))
    assert newest(store, "a", max_age_ms=10) == ids(2, 1)
    assert newest(store, "a", max_age_ms=9) == ids(2)
    assert newest(store, "a", now_ms=NOW_MS + 100, max_age_ms=9) == []


def test_an_empty_store_answers_with_nothing() -> None:
    store, _ = a_store()
    assert newest(store) == []
    assert newest(store, "a") == []
    assert store.newest_overall(5, NOW_MS, 10).tolist() == []
    assert store.gather(np.empty(0, dtype=np.int32)).topics.shape == (0, 3)
    store.tick(NOW_MS)


def test_replies_pass_by_the_rule_of_thunder() -> None:
    thread = (
        a_post_created("root", "r"),
        a_post_created("answer", "b", kind="reply", parent_id="root", conversation_id="root"),
        a_post_created("deep", "c", kind="reply", parent_id="answer", conversation_id="root"),
        a_post_created("deeper", "d", kind="reply", parent_id="deep", conversation_id="root"),
        a_post_created("lost", "e", kind="reply", parent_id="unknown", conversation_id="root"),
    )
    store = a_store_with(*thread)
    assert newest(store, "b") == ids("answer"), "the parent is an original"
    assert newest(store, "c") == [], "whom it answers is not followed"
    assert sorted(newest(store, "b", "c")) == sorted(ids("answer", "deep"))
    assert newest(store, "c", follows=np.array([user("b")])) == ids("deep")
    assert newest(store, "d", "c") == [], "too deep in the thread"
    assert newest(store, "e") == []


def test_reposts_of_the_viewers_own_posts_are_left_out() -> None:
    store = a_store_with(
        a_post_created(1, "me"),
        a_post_created(2, "a", kind="repost", parent_id=1, parent_author_id="me"),
        a_post_created(3, "b", kind="repost", parent_id=1),
        a_post_created(4, "c", kind="repost", parent_id=9, parent_author_id="you"),
    )
    assert newest(store, "a", "b", "c", viewer="me") == ids(4)
    assert sorted(newest(store, "a", "b", "c", viewer="other")) == sorted(ids(2, 3, 4))


def test_reading_changes_no_array() -> None:
    store = a_store_with(*(a_post_created(i, f"a{i % 5}", at_ms=NOW_MS + i) for i in range(50)))
    before = {name: array.tobytes() for name, array in store.arrays().items()}
    newest(store, *(f"a{i}" for i in range(5)))
    store.newest_overall(10, NOW_MS + 50, 100)
    store.is_deleted(HASHER.posts(["1"]))
    assert before == {name: array.tobytes() for name, array in store.arrays().items()}


def test_read_only_ids_and_rows_are_welcome() -> None:
    store = a_store_with(a_post_created(1, "a"))
    frozen = HASHER.posts(["1"])
    frozen.setflags(write=False)
    rows = store.find(frozen)
    rows.setflags(write=False)
    assert store.gather(rows).post_id.tolist() == ids(1)


def test_a_row_of_another_store_is_refused() -> None:
    store = a_store_with(a_post_created(1, "a"))
    with pytest.raises(StoreError, match="post row 5"):
        store.gather(np.array([5], dtype=np.int32))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_merge_equals_its_reference_on_larger_worlds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, n_authors = 2_000, 80
    post_ids = rng.permutation(np.arange(1, n + 1))
    author_ids = rng.integers(1, n_authors, n)
    kinds = rng.choice(4, n, p=(0.5, 0.3, 0.1, 0.1)).astype(np.int8)
    parents = np.where(kinds > 0, rng.integers(1, n + 1, n), 0)
    store, _ = a_store(StoresConfig())
    store.ingest(
        PostColumns(
            post_id=post_ids,
            author_id=author_ids,
            created_ms=NOW_MS + rng.integers(0, 3_000, n),
            kind=kinds,
            parent_id=parents,
            parent_author_id=np.zeros(n, dtype=np.int64),
            conversation_id=np.where(rng.random(n) < 0.5, rng.integers(1, n + 1, n), parents),
            has_video=rng.random(n) < 0.3,
            duration_ms=np.zeros(n, dtype=np.int32),
            is_sensitive=np.zeros(n, dtype=bool),
            language=np.zeros(n, dtype=np.int32),
            topics=np.zeros((n, 3), dtype=np.int32),
        )
    )
    for max_posts in (1, 50, 5_000):
        who = rng.choice(np.arange(1, n_authors), 40, replace=False)
        rows = store.newest(who, viewer_id=7, now_ms=NOW_MS + 3_000, max_age_ms=2_500, max_posts=max_posts)
        reference = merge_newest_reference(
            store._store, who, np.empty(0, dtype=np.int64), 7, NOW_MS + 500, max_posts, TIMELINE_RINGS
        )
        assert rows.tolist() == reference.tolist()
