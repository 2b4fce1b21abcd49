"""The feature store: what it declares it has, and every value is what the stores say at that offset."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings

from millrace.base.actions import Action, ActionSpace
from millrace.base.errors import NotFoundError
from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.content.config import ContentConfig
from millrace.content.semantic_id_cache import SemanticIdCache
from millrace.content.semantic_ids import Codebooks, SemanticIdSettings
from millrace.content.text_index import TextIndex
from millrace.events.content_events import Media
from millrace.events.envelope import AnyEvent
from millrace.features.store.counting import PRIOR_IMPRESSIONS
from millrace.features.store.feature import Feature, FeatureRows, FeatureTable
from millrace.features.store.feature_store import FeatureStore
from millrace.features.store.post_reference import read_posts_reference
from millrace.stores.config import StoresConfig
from millrace.stores.engagement_config import HOUR_MS
from millrace.stores.state import State
from millrace.testing import strategies as events_st
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_follow,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    a_profile_updated,
    an_engagement,
    an_impression,
)

HASHER = IdHasher()
DAY_MS = 24 * HOUR_MS
LABELS = (*ActionSpace().names, "impression")


class Home:
    """A state, its texts and the feature store over both."""

    def __init__(self) -> None:
        config = StoresConfig()
        self.state = State(config, HASHER)
        self.texts = TextIndex(ContentConfig(), HASHER)
        self.store = FeatureStore(self.state, self.texts, config.engagements)

    def take(self, events: Sequence[AnyEvent]) -> "Home":
        batch = a_batch_of(events)
        for fold in (*self.state.folds(), self.texts):
            fold.apply(batch)
        return self

    def posts(self, *names: object, now_ms: int = NOW_MS) -> FeatureRows:
        ids = np.array([hash_id(IdKind.POST, str(name)) for name in names], dtype=np.int64)
        return self.store.posts.read(ids, now_ms)

    def users(self, *names: object, now_ms: int = NOW_MS) -> FeatureRows:
        ids = np.array([hash_id(IdKind.USER, str(name)) for name in names], dtype=np.int64)
        return self.store.users.read(ids, now_ms)


def said(rows: FeatureRows, name: str) -> dict[str, float]:
    values = np.asarray(rows[name])[0].tolist()
    return {label: value for label, value in zip(rows.table.feature(name).labels, values, strict=True) if value}


def test_a_post_has_two_hundred_and_fifty_numbers_each_named_once() -> None:
    names = Home().store.posts.table.dense_names()
    assert len(names) >= 250
    assert len(set(names)) == len(names)


def test_a_post_tells_what_it_is_and_what_was_done_to_it_and_its_authors_posts() -> None:
    home = Home().take(
        [
            a_profile_updated(10, at_ms=NOW_MS - 4 * DAY_MS, is_verified=True),
            a_follow(20, 10),
            a_post_created(1, author_id=10, at_ms=NOW_MS - 6 * HOUR_MS),
            a_post_created(2, author_id=10, at_ms=NOW_MS - 5 * HOUR_MS),
            a_post_annotated(1, topics=("film", "books")),
            an_impression(20, 1, dwell_ms=4_000, at_ms=NOW_MS - 2 * HOUR_MS),
            an_engagement(20, 1, action="like", at_ms=NOW_MS - 2 * HOUR_MS),
            an_engagement(21, 2, action="like"),
        ]
    )
    rows = home.posts(1)
    assert rows.is_known.tolist() == [True]
    assert said(rows, "post_counts_1h") == {}
    assert said(rows, "post_counts_1d") == {
        "like": 1,
        "dwell_time": 4,
        "impression": 1,
    }
    assert said(rows, "post_counts_total") == {"like": 1, "dwell_time": 4, "impression": 1}
    assert said(rows, "author_counts_1h") == {"like": 1}
    assert said(rows, "author_counts_7d") == {"like": 2, "dwell_time": 4, "impression": 1}
    assert said(rows, "post_rates_total") == {"like": pytest.approx(1 / (1 + PRIOR_IMPRESSIONS))}
    scalars = {name: float(np.asarray(rows[name])[0]) for name in ("age_h", "author_followers", "n_topics")}
    assert scalars == {"age_h": 6, "author_followers": 1, "n_topics": 2}
    assert (float(rows["author_is_verified"][0]), float(rows["author_age_d"][0])) == (1, 4)


def test_a_repost_counts_as_what_it_carries() -> None:
    home = Home().take(
        [
            a_post_created(1, author_id=10, at_ms=NOW_MS - 6 * HOUR_MS),
            a_post_created(2, author_id=11, at_ms=NOW_MS - HOUR_MS, kind="repost", parent_id="1"),
            an_engagement(20, 1, action="like"),
        ]
    )
    rows = home.posts(2)
    assert said(rows, "post_counts_1h") == {"like": 1}
    assert (float(rows["age_h"][0]), float(rows["share_age_h"][0]), float(rows["is_repost"][0])) == (6, 1, 1)


def test_of_a_post_that_nobody_knows_nothing_is_said() -> None:
    rows = Home().posts("nobody's")
    assert not rows.is_known.any()
    assert not rows.dense.any()


def test_a_users_history_is_told_at_every_grain() -> None:
    ages = [*range(60), 8 * 24, 20 * 24, 40 * 24]
    home = Home().take(
        [an_engagement(20, post, action="like", at_ms=NOW_MS - age * HOUR_MS) for post, age in enumerate(ages[::-1])]
    )
    rows = home.users(20)
    grains = ("newest_50", "days_7", "days_30", "long_term")
    assert [said(rows, f"history_counts_{grain}")["like"] for grain in grains] == [50, 60, 62, 63]
    histories = home.store.users.histories(hash_id(IdKind.USER, "20"), NOW_MS)
    assert [len(history.post_ids) for history in histories] == [50, 60, 62, 63]
    assert histories.newest_50.times_ms.tolist() == [NOW_MS - age * HOUR_MS for age in range(49, -1, -1)]
    assert said(rows, "user_counts_1h") == {"like": 1}
    assert np.asarray(rows["active_hours"])[0].sum() == pytest.approx(1)


def test_a_user_tells_whom_and_what_they_like_and_what_is_done_to_their_posts() -> None:
    home = Home().take(
        [
            a_profile_updated(20, languages=("en",), interests=("music",)),
            a_post_created(1, author_id=10),
            a_post_annotated(1, topics=("film",)),
            a_post_created(3, author_id=20),
            an_engagement(20, 1, action="like"),
            an_engagement(20, 1, action="reply"),
            an_engagement(10, 3, action="repost"),
        ]
    )
    rows, codes = home.users(20), home.state.codes
    assert np.asarray(rows["liked_authors"])[0].tolist() == [hash_id(IdKind.USER, "10"), *[0] * 7]
    assert np.asarray(rows["liked_topics"])[0].tolist() == [codes.topics.code("film"), *[0] * 7]
    assert codes.topics.name(int(np.asarray(rows["interests"])[0, 0])) == "music"
    assert said(rows, "author_counts_total") == {"repost": 1}
    assert (float(rows["n_deliberate"][0]), float(rows["n_live_posts"][0])) == (2, 1)


sequences = events_st.event_sequences(max_size=60)
POST_IDS = np.array([hash_id(IdKind.POST, text) for text in (*events_st.POSTS, "unknown")], dtype=np.int64)
USER_IDS = np.array([hash_id(IdKind.USER, text) for text in (*events_st.USERS, "unknown")], dtype=np.int64)


@given(sequences)
@settings(max_examples=40, deadline=None)
def test_a_pass_over_many_posts_says_what_the_stores_say_of_each(found: list[AnyEvent]) -> None:
    home = Home().take(found)
    for now_ms in (NOW_MS, NOW_MS + events_st.SPAN_MS):
        rows = home.store.posts.read(POST_IDS, now_ms)
        assert rows.equals(read_posts_reference(rows.table, home.state, home.texts, POST_IDS, now_ms))


def test_the_pass_and_the_stores_agree_on_every_kind_of_post() -> None:
    media = (Media(kind="video", duration_ms=2_500), Media(kind="image"), Media(kind="audio"))
    home = Home().take(
        [
            a_profile_updated(10, at_ms=NOW_MS - 4 * DAY_MS, is_verified=True),
            a_follow(20, 10),
            a_post_created(1, author_id=10, at_ms=NOW_MS - HOUR_MS, text="some words", media=media, is_sensitive=True),
            a_post_annotated(1, topics=("film", "books"), language="en"),
            a_post_created(2, author_id=11, kind="reply", parent_id="1"),
            a_post_created(3, author_id=11, kind="repost", parent_id="1"),
            a_post_created(4, author_id=11, kind="repost", parent_id="gone"),
            a_post_created(5, author_id=11, kind="quote", parent_id="1"),
            a_post_created(6, author_id=11),
            a_post_deleted(6),
            an_impression(20, 1, dwell_ms=7_000),
            *(an_engagement(user, 1, action="like") for user in range(20, 40)),
        ]
    )
    ids = np.array([hash_id(IdKind.POST, str(name)) for name in range(8)], dtype=np.int64)
    for now_ms in (NOW_MS - DAY_MS, NOW_MS, NOW_MS + 2 * DAY_MS):
        rows = home.store.posts.read(ids, now_ms)
        assert rows.equals(read_posts_reference(rows.table, home.state, home.texts, ids, now_ms))
    told = home.posts(*range(8))
    assert np.asarray(told["duration_s"]).tolist() == [0, 2.5, 0, 0, 0, 0, 0, 0]
    assert np.asarray(told["is_deleted"]).tolist() == [0, 0, 0, 0, 0, 0, 1, 0]


@given(sequences)
@settings(max_examples=40, deadline=None)
def test_streaming_and_batch_give_the_same_bytes(found: list[AnyEvent]) -> None:
    whole, streamed = Home().take(found), Home()
    for event in found:
        streamed.take([event])
    now_ms = NOW_MS + 1
    assert whole.store.posts.read(POST_IDS, now_ms).equals(streamed.store.posts.read(POST_IDS, now_ms))
    assert whole.store.users.read(USER_IDS, now_ms).equals(streamed.store.users.read(USER_IDS, now_ms))


def test_a_name_that_is_not_declared_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotFoundError, match="post_counts_1h"):
        Home().store.posts.table.feature("post_counts_9y")


def test_a_feature_declared_twice_is_a_mistake() -> None:
    feature = Feature("age_h", np.dtype(np.float32), (), "posts", "request", "hours")
    with pytest.raises(ValueError, match="twice"):
        FeatureTable((feature, feature))


def test_action_columns_stand_in_the_order_of_actions() -> None:
    table = Home().store.posts.table
    labels = table.feature("post_counts_1h").labels
    assert labels == LABELS
    assert labels[int(Action.LIKE)] == "like"


def test_semantic_ids_are_those_of_the_codebooks_for_every_post_that_has_a_text() -> None:
    home = Home().take([a_post_created(1, text="about cats"), a_post_created(2, text="about mills"), a_post_created(3)])
    rng = np.random.default_rng(1)
    shape = SemanticIdSettings(n_levels=2, n_codes=16, n_dims=64)
    books = Codebooks(shape, rng.standard_normal((2, 16, 64)).astype(np.float32))
    config = StoresConfig().engagements
    store = FeatureStore(home.state, home.texts, config, codes_of=SemanticIdCache(books, home.texts).codes, n_levels=2)
    ids = np.array([hash_id(IdKind.POST, str(name)) for name in (1, 2, 99)], dtype=np.int64)
    expected = books.encode(home.texts.whole_vectors(ids))
    assert (expected[:2] >= 0).all()
    assert store.posts.read(ids, NOW_MS)["semantic_id"].tolist() == [*expected[:2].tolist(), [-1, -1]]
    assert home.posts(1)["semantic_id"].tolist() == [[-1, -1, -1]]
