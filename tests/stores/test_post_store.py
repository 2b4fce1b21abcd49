"""`PostStore` against a naive model of dicts and lists, and rule by rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher
from millrace.events.content_events import PostAnnotated, PostCreated, PostDeleted, PostEdited
from millrace.events.envelope import AnyEvent
from millrace.events.user_events import UserErased
from millrace.stores.codes import CodeTables
from millrace.stores.config import StoresConfig
from millrace.stores.post_reads import TIMELINE_RINGS, VIDEO_RINGS, merge_newest_reference
from millrace.stores.post_store import KIND_CODES, PostColumns, PostStore
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_user_erased,
    a_video,
)

MINUTE_MS = 60_000
CONFIG = StoresConfig(
    max_originals_per_author=3,
    max_secondary_per_author=2,
    max_videos_per_author=4,
    post_retention_ms=60 * MINUTE_MS,
    n_trim_slices=1,
)
HASHER = IdHasher()


def user(text: object) -> int:
    return int(HASHER.users([str(text)])[0])


def post(text: object) -> int:
    return int(HASHER.posts([str(text)])[0])


def a_store(config: StoresConfig = CONFIG) -> tuple[PostStore, CodeTables]:
    codes = CodeTables(config)
    return PostStore(config, HASHER, codes), codes


def fold(store: PostStore, codes: CodeTables, *events: AnyEvent, appended_ms: int | None = None) -> None:
    batch = a_batch_of(events, appended_ms=appended_ms)
    codes.apply(batch)
    store.apply(batch)


def a_store_with(*events: AnyEvent, config: StoresConfig = CONFIG) -> PostStore:
    store, codes = a_store(config)
    fold(store, codes, *events)
    return store


def newest(store: PostStore, *authors: object, viewer: object = "viewer", **options: Any) -> list[int]:
    rows = store.newest(
        np.array([user(author) for author in authors], dtype=np.int64),
        viewer_id=user(viewer),
        now_ms=options.pop("now_ms", NOW_MS),
        max_age_ms=options.pop("max_age_ms", 10**12),
        max_posts=options.pop("max_posts", 100),
        **options,
    )
    return store.gather(rows).post_id.tolist()


def ids(*texts: object) -> list[int]:
    return [post(text) for text in texts]


# --- the naive model


@dataclass
class ModelPost:
    author: int
    created: int
    kind: str
    parent: int
    parent_author: int
    conversation: int
    has_video: bool
    duration: int
    sensitive: bool
    language: str = ""
    topics: tuple[str, ...] = ()
    rings: set[str] = field(default_factory=set)


class Model:
    """The rules of the store, said with dicts and sorted lists."""

    def __init__(self, config: StoresConfig) -> None:
        self.config = config
        self.posts: dict[int, ModelPost] = {}
        self.deleted: dict[int, int] = {}
        self.oldest = -(10**18)
        self.longest = {
            "originals": config.max_originals_per_author,
            "secondary": config.max_secondary_per_author,
            "videos": config.max_videos_per_author,
        }

    def ring(self, author: int, ring: str) -> list[int]:
        found = [key for key, p in self.posts.items() if p.author == author and ring in p.rings]
        return sorted(found, key=lambda key: (-self.posts[key].created, key))

    def put(self, key: int, ring: str) -> None:
        self.posts[key].rings.add(ring)
        for old in self.ring(self.posts[key].author, ring)[self.longest[ring] :]:
            self.posts[old].rings.discard(ring)

    def sweep(self) -> None:
        self.posts = {key: p for key, p in self.posts.items() if p.rings}

    def delete(self, key: int, at: int) -> None:
        self.deleted[key] = max(at, self.deleted.get(key, at))
        self.posts.pop(key, None)

    def apply(self, event: AnyEvent, appended: int) -> None:
        at, payload = min(event.event_time_ms, appended), event.payload
        if isinstance(payload, PostCreated):
            key = post(payload.post_id)
            created = min(event.event_time_ms if payload.created_at_ms is None else payload.created_at_ms, appended)
            if key in self.posts or key in self.deleted or created < self.oldest:
                return
            parent = post(payload.parent_id) if payload.parent_id else 0
            parent_author = user(payload.parent_author_id) if payload.parent_author_id else 0
            if parent and not parent_author and parent in self.posts:
                parent_author = self.posts[parent].author
            self.posts[key] = ModelPost(
                author=user(payload.author_id),
                created=created,
                kind=payload.kind,
                parent=parent,
                parent_author=parent_author,
                conversation=post(payload.conversation_id) if payload.conversation_id else key,
                has_video=any(m.kind == "video" for m in payload.media),
                duration=max((m.duration_ms for m in payload.media), default=0),
                sensitive=payload.is_sensitive,
            )
            self.put(key, "secondary" if payload.kind in ("reply", "repost") else "originals")
            if self.posts[key].has_video:
                self.put(key, "videos")
        elif isinstance(payload, PostDeleted):
            self.delete(post(payload.post_id), at)
        elif isinstance(payload, UserErased):
            gone = user(payload.user_id)
            for key in [key for key, p in self.posts.items() if p.author == gone]:
                self.delete(key, at)
            for p in self.posts.values():
                p.parent_author = 0 if p.parent_author == gone else p.parent_author
        elif post(payload.post_id) in self.posts:
            self.change(post(payload.post_id), payload)
        self.sweep()

    def change(self, key: int, payload: PostEdited | PostAnnotated) -> None:
        p = self.posts[key]
        if isinstance(payload, PostAnnotated):
            p.language = p.language if payload.language is None else payload.language
            p.topics = p.topics if payload.topics is None else payload.topics[:3]
            return
        p.sensitive = p.sensitive if payload.is_sensitive is None else payload.is_sensitive
        if payload.media is not None:
            p.has_video = any(m.kind == "video" for m in payload.media)
            p.duration = max((m.duration_ms for m in payload.media), default=0)
            if p.has_video and "videos" not in p.rings:
                self.put(key, "videos")
            elif not p.has_video:
                p.rings.discard("videos")

    def tick(self, watermark: int) -> None:
        self.oldest = max(self.oldest, watermark - self.config.post_retention_ms)
        self.posts = {key: p for key, p in self.posts.items() if p.created >= self.oldest}
        self.deleted = {key: at for key, at in self.deleted.items() if at >= self.oldest}

    def newest(self, authors: set[int], follows: set[int], viewer: int, oldest: int, *, videos: bool) -> list[int]:
        rings = {"videos"} if videos else {"originals", "secondary"}
        found = [
            key
            for key, p in self.posts.items()
            if p.author in authors and p.created >= oldest and p.rings & rings and self.may_see(p, viewer, follows)
        ]
        return sorted(found, key=lambda key: (-self.posts[key].created, key))

    def may_see(self, p: ModelPost, viewer: int, follows: set[int]) -> bool:
        parent = self.posts.get(p.parent)
        if p.kind == "repost":
            return (p.parent_author or (parent.author if parent else 0)) != viewer
        if p.kind != "reply":
            return True
        if parent is None:
            return False
        if parent.kind in ("original", "quote"):
            return True
        return parent.kind == "reply" and parent.parent == p.conversation and parent.author in follows


# --- random histories

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


def assert_same_arrays(first: PostStore, second: PostStore) -> None:
    one, two = first.arrays(), second.arrays()
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].dtype == two[name].dtype, name
        assert one[name].shape == two[name].shape, name
        assert one[name].tobytes() == two[name].tobytes(), name


def assert_newest_times_are_true(store: PostStore) -> None:
    for ring, noted in enumerate(store.arrays()["newest_ms"].tolist()):
        records = store._rings.read(ring)
        assert noted == (records[-1, 0] + 1 if len(records) else 0), ring


@settings(max_examples=120, deadline=None)
@given(histories, st.integers(0, 20), st.booleans())
def test_store_holds_what_the_naive_model_holds(history: list[AnyEvent | int], age_steps: int, videos: bool) -> None:
    store, codes = a_store()
    live(store, history, set())
    model = Model(CONFIG)
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
    config = replace_config(n_trim_slices=2)
    whole = live(a_store(config)[0], history, set())
    first, codes = a_store(config)
    live(first, history[:restart], cuts)
    second = PostStore(config, HASHER, codes)
    second.load({name: array.copy() for name, array in first.arrays().items()})
    live(second, history[restart:], {cut - restart for cut in cuts})
    assert_same_arrays(whole, second)


def replace_config(**changes: int) -> StoresConfig:
    values = {name: getattr(CONFIG, name) for name in CONFIG.__struct_fields__}
    return StoresConfig(**{**values, **changes})


# --- rule by rule


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
    store.tick(NOW_MS + CONFIG.post_retention_ms + 1)
    assert store.is_deleted(HASHER.posts(["1"])).tolist() == [False]
    fold(store, codes, a_post_created(1, "a"))
    assert store.n_posts == 0, "by then it is older than the retention"


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


def test_a_tick_trims_one_slice_of_the_authors() -> None:
    config = replace_config(n_trim_slices=5)
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
    young_ms = NOW_MS + CONFIG.post_retention_ms + 5
    fold(
        store,
        codes,
        a_post_created(1, "a"),
        a_post_created(2, "a", kind="repost", parent_id=9, parent_author_id="b", at_ms=young_ms),
    )
    store.tick(young_ms)
    assert newest(store, "a", now_ms=young_ms) == ids(2)
    assert_newest_times_are_true(store)


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
