"""Reads that look at post rows one by one, against plain loops over the same posts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher
from millrace.events.content_events import PostCreated, PostDeleted
from millrace.events.envelope import AnyEvent
from millrace.stores.codes import CodeTables
from millrace.stores.config import StoresConfig
from millrace.stores.post_store import PostStore
from millrace.testing import strategies as events_st
from millrace.testing.builders import NOW_MS, a_batch_of, a_post_created

HASHER = IdHasher()
POST_IDS = HASHER.posts(events_st.POSTS)
USER_IDS = HASHER.users(events_st.USERS)
LATER_MS = NOW_MS + events_st.SPAN_MS


def a_store(events: list[AnyEvent]) -> PostStore:
    store = PostStore(StoresConfig(), HASHER, CodeTables())
    store.apply(a_batch_of(events))
    return store


@settings(max_examples=80, deadline=None)
@given(
    events=events_st.event_sequences((PostCreated, PostDeleted)),
    max_age_h=st.integers(0, 13),
    max_per_author=st.integers(0, 3),
)
def test_agrees_with_plain_loops(events: list[AnyEvent], max_age_h: int, max_per_author: int) -> None:
    store = a_store(events)
    max_age_ms = max_age_h * events_st.HOUR_MS
    posts = store.gather(store.find(POST_IDS))
    is_fresh = (posts.post_id != 0) & (posts.created_ms >= LATER_MS - max_age_ms) & np.isin(posts.kind, (0, 3))
    assert store.is_fresh_original(POST_IDS, LATER_MS, max_age_ms).tolist() == is_fresh.tolist()

    wanted = []
    for author in USER_IDS:
        rows = np.flatnonzero(is_fresh & (posts.author_id == author))
        order = np.lexsort((posts.post_id[rows], -posts.created_ms[rows]))
        wanted += posts.post_id[rows[order]][:max_per_author].tolist()
    found = store.newest_of_each(np.concatenate([[0, 77], USER_IDS]), LATER_MS, max_age_ms, max_per_author)
    assert store.post_ids(found).tolist() == wanted
    row_of = {int(post): row for row, post in enumerate(posts.post_id)}
    assert store.author_ids(found).tolist() == [int(posts.author_id[row_of[post]]) for post in wanted]


def test_nobody_and_nothing_are_valid() -> None:
    store, none = a_store([]), np.empty(0, dtype=np.int64)
    assert store.newest_of_each(none, NOW_MS, 1_000, 3).tolist() == []
    assert store.is_fresh_original(none, NOW_MS, 1_000).tolist() == []
    assert a_store([a_post_created("p1", "u1")]).is_fresh_original(np.array([0]), NOW_MS, 1_000).tolist() == [False]
