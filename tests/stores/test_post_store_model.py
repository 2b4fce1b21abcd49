"""`PostStore` against a naive model, over random histories, batches and restarts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.events.envelope import AnyEvent
from millrace.stores.post_changes import KIND_CODES
from millrace.stores.post_reads import TIMELINE_RINGS, VIDEO_RINGS, merge_newest_reference
from millrace.stores.post_store import PostStore
from millrace.testing.builders import (
    NOW_MS,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_user_erased,
    a_video,
)
from millrace.testing.post_model import PostModel
from millrace.testing.small_posts import (
    HASHER,
    MINUTE_MS,
    SMALL_POSTS,
    a_store,
    assert_same_arrays,
    fold,
    post,
    small_posts,
    user,
)

AUTHORS = ("a", "b", "c")
POSTS = tuple(f"p{i}" for i in range(12))
authors, posts = st.sampled_from(AUTHORS), st.sampled_from(POSTS)
times = st.integers(0, 20).map(lambda step: NOW_MS + step * 6 * MINUTE_MS)
media = st.sampled_from(((), (a_video(1_000),), (a_video(5_000),)))


@st.composite
def creations(draw: st.DrawFn) -> AnyEvent:
    kind = draw(st.sampled_from(("original", "original", "quote", "reply", "reply", "repost")))
    key = draw(posts)
    return a_post_created(
        key,
        draw(authors),
        kind=kind,
        parent_id=None if kind == "original" else draw(posts.filter(lambda other: other != key)),
        parent_author_id=None if kind == "original" else draw(st.none() | authors),
        conversation_id=draw(st.none() | posts),
        media=draw(media),
        is_sensitive=draw(st.booleans()),
        created_at_ms=draw(st.none() | times),
        at_ms=draw(times),
    )


topics = st.lists(st.sampled_from(("music", "sport", "news", "cats")), max_size=4, unique=True).map(tuple)
events = st.one_of(
    creations(),
    creations(),
    creations(),
    st.builds(a_post_edited, posts, is_sensitive=st.none() | st.booleans(), media=st.none() | media, at_ms=times),
    st.builds(a_post_deleted, posts, at_ms=times),
    st.builds(a_post_annotated, posts, language=st.none() | st.sampled_from(("en", "ja")), topics=st.none() | topics),
    st.builds(a_user_erased, authors, at_ms=times),
)
histories = st.lists(st.one_of(events, events, events, events, times), max_size=60)
"""Events, and between them watermarks (ints) at which the store is ticked."""


def live(store: PostStore, history: list[AnyEvent | int], cuts: set[int]) -> PostStore:
    """Fold a history in batches cut at ticks and wherever else ``cuts`` says."""
    pending: list[AnyEvent] = []
    codes = store._codes
    for place, item in enumerate(history):
        if isinstance(item, int):
            fold(store, codes, *pending, appended_ms=NOW_MS + 90 * MINUTE_MS)
            pending = []
            store.tick(item)
            continue
        pending.append(item)
        if place in cuts:
            fold(store, codes, *pending, appended_ms=NOW_MS + 90 * MINUTE_MS)
            pending = []
    fold(store, codes, *pending, appended_ms=NOW_MS + 90 * MINUTE_MS)
    return store


def assert_newest_times_are_true(store: PostStore) -> None:
    for ring, noted in enumerate(store.arrays()["newest_ms"].tolist()):
        records = store._rings.read(ring)
        assert noted == (records[-1, 0] + 1 if len(records) else 0), ring


@settings(max_examples=120, deadline=None)
@given(histories, st.integers(0, 20), st.booleans())
def test_store_holds_what_the_naive_model_holds(history: list[AnyEvent | int], age_steps: int, videos: bool) -> None:
    store, codes = a_store()
    live(store, history, set())
    model = PostModel(SMALL_POSTS)
    for item in history:
        if isinstance(item, int):
            model.tick(item)
        else:
            model.apply(item, NOW_MS + 90 * MINUTE_MS)
    assert_newest_times_are_true(store)
    keys = np.array([post(key) for key in POSTS], dtype=np.int64)
    assert store.n_posts == len(model.posts)
    assert (store.find(keys) >= 0).tolist() == [int(key) in model.posts for key in keys]
    assert store.is_deleted(keys).tolist() == [int(key) in model.deleted for key in keys]
    columns = store.gather(store.find(keys))
    for i, key in enumerate(keys.tolist()):
        p = model.posts.get(key)
        if p is None:
            assert columns.post_id[i] == 0
            continue
        assert (columns.post_id[i], columns.author_id[i], columns.created_ms[i]) == (key, p.author, p.created)
        assert (columns.kind[i], columns.parent_id[i]) == (KIND_CODES[p.kind], p.parent)
        assert (columns.parent_author_id[i], columns.conversation_id[i]) == (p.parent_author, p.conversation)
        assert (columns.has_video[i], columns.duration_ms[i]) == (p.has_video, p.duration)
        assert columns.is_sensitive[i] == p.sensitive
        assert codes.languages.name(int(columns.language[i])) == p.language
        named = tuple(codes.topics.name(code) for code in columns.topics[i].tolist() if code)
        assert named == p.topics
    now = NOW_MS + 120 * MINUTE_MS
    max_age = age_steps * 6 * MINUTE_MS
    for viewer, followed, cut in (("a", "bc", "bc"), ("v", "abc", "ab"), ("v", "a", "a"), ("v", "", "")):
        who = np.array([user(author) for author in cut], dtype=np.int64)
        follows = np.array([user(author) for author in followed], dtype=np.int64)
        rows = store.newest(
            who,
            viewer_id=user(viewer),
            now_ms=now,
            max_age_ms=max_age,
            max_posts=5,
            follows=follows,
            only_videos=videos,
        )
        wanted = model.newest(set(who.tolist()), set(follows.tolist()), user(viewer), now - max_age, videos=videos)
        assert store.gather(rows).post_id.tolist() == wanted[:5]
        rings = VIDEO_RINGS if videos else TIMELINE_RINGS
        reference = merge_newest_reference(store._store, who, follows, user(viewer), now - max_age, 5, rings)
        assert rows.tolist() == reference.tolist()
    overall = store.gather(store.newest_overall(4, now, max_age)).post_id.tolist()
    originals = [key for key, p in model.posts.items() if p.kind in ("original", "quote")]
    originals = [key for key in originals if model.posts[key].created >= now - max_age]
    assert overall == sorted(originals, key=lambda key: (-model.posts[key].created, key))[:4]


@settings(max_examples=60, deadline=None)
@given(histories, st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_cuts_and_restarts_leave_no_trace_in_the_arrays(
    history: list[AnyEvent | int], cuts: set[int], restart: int
) -> None:
    config = small_posts(n_trim_slices=2)
    whole = live(a_store(config)[0], history, set())
    first, codes = a_store(config)
    live(first, history[:restart], cuts)
    second = PostStore(config, HASHER, codes)
    second.load({name: array.copy() for name, array in first.arrays().items()})
    live(second, history[restart:], {cut - restart for cut in cuts})
    assert_same_arrays(whole, second)
