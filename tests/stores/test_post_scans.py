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
from millrace.testing.builders import NOW_MS, a_batch_of, a_post_annotated, a_post_created

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


def test_the_newest_of_all_in_some_languages_and_without_sensitive_ones() -> None:
    codes = CodeTables()
    store = PostStore(StoresConfig(), HASHER, codes)
    events = [a_post_created(f"p{n}", "u1", at_ms=NOW_MS - n, is_sensitive=n == 3) for n in range(6)]
    languages = {1: "en", 2: "ja", 3: "ja", 4: "ja", 5: "fr"}
    events += [a_post_annotated(f"p{n}", language=language) for n, language in languages.items()]
    batch = a_batch_of(events)
    codes.apply(batch)
    store.apply(batch)

    def newest(*languages: str, with_sensitive: bool = True, max_posts: int = 9) -> list[int]:
        wanted = np.array([codes.languages.code(language) for language in languages], dtype=np.int32)
        rows = store.newest_overall(
            max_posts, NOW_MS, 9, languages=wanted if languages else None, with_sensitive=with_sensitive
        )
        created_ms: list[int] = store.gather(rows).created_ms.tolist()
        return [NOW_MS - at_ms for at_ms in created_ms]

    assert newest() == [0, 1, 2, 3, 4, 5]
    assert newest("ja") == [0, 2, 3, 4]  # that of p0 is not known
    assert newest("ja", with_sensitive=False) == [0, 2, 4]
    assert newest("ja", "fr", with_sensitive=False, max_posts=3) == [0, 2, 4]
    assert newest("en", max_posts=1) == [0]
