"""Who has what in common: kernels against plain Python, and small worlds worked out by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.ids import IdHasher, IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.stores.codes import CodeTables
from millrace.stores.engagement_config import EngagementConfig
from millrace.stores.engagements import EngagementStore
from millrace.stores.taste_references import co_engaged_reference, engaged_by_reference, like_minded_reference
from millrace.testing import strategies as events_st
from millrace.testing.builders import a_batch_of, a_post_deleted, an_engagement

HASHER = IdHasher()
POST_IDS = HASHER.posts(events_st.POSTS)
USER_IDS = HASHER.users(events_st.USERS)


def a_store(events: Sequence[AnyEvent], config: EngagementConfig | None = None) -> EngagementStore:
    store = EngagementStore(config or EngagementConfig(), HASHER, CodeTables())
    store.apply(a_batch_of(events))
    return store


def user(text: object) -> int:
    return hash_id(IdKind.USER, str(text))


def posts(*texts: object) -> np.ndarray:
    return np.array([hash_id(IdKind.POST, str(text)) for text in texts], dtype=np.int64)


def likes(*pairs: tuple[object, object]) -> list[AnyEvent]:
    return [an_engagement(str(viewer), str(post), "like") for viewer, post in pairs]


limits = st.integers(1, 5)
configs = st.sampled_from([EngagementConfig(), EngagementConfig(max_engagers=4, post_half_lives_ms=(3_600_000,))])


@settings(max_examples=80, deadline=None)
@given(
    events=events_st.event_sequences(EngagementStore.handles, max_size=80),
    config=configs,
    n_seeds=st.integers(0, len(events_st.POSTS)),
    first=limits,
    second=limits,
    third=limits,
)
def test_agrees_with_the_references(
    events: list[AnyEvent], config: EngagementConfig, n_seeds: int, first: int, second: int, third: int
) -> None:
    store = a_store(events, config)
    seeds = POST_IDS[:n_seeds]
    common = {
        "max_per_post": first,
        "exclude_user": int(USER_IDS[0]),
        "max_users": second,
        "max_engaged": third,
        "damping": 0.5,
    }
    found, wanted = store.tastes.like_minded(seeds, **common), like_minded_reference(store.index, seeds, **common)
    assert found.user_ids.tolist() == wanted.user_ids.tolist()
    assert found.similarity.tolist() == pytest.approx(wanted.similarity.tolist())
    assert found.n_common.tolist() == wanted.n_common.tolist()

    weights = np.linspace(0.5, 2.0, len(USER_IDS))
    by, by_wanted = (
        store.tastes.engaged_by(USER_IDS, weights, second),
        engaged_by_reference(store.index, USER_IDS, weights.tolist(), second),
    )
    order = np.argsort(by.post_ids)
    assert by.post_ids[order].tolist() == by_wanted.post_ids.tolist()
    assert by.weights[order].tolist() == pytest.approx(by_wanted.weights.tolist())
    assert by.n_users[order].tolist() == by_wanted.n_users.tolist()

    walk = {
        "max_sample": first,
        "max_edges": 3 * second,
        "max_per_user": third,
        "min_common": 1 + first % 2,
        "exclude_user": int(USER_IDS[1]),
    }
    co = store.tastes.co_engaged(seeds, **walk)
    co_wanted = co_engaged_reference(store.tastes, store.index, seeds, **walk)
    order = np.argsort(co.post_ids)
    assert co.post_ids[order].tolist() == co_wanted.post_ids.tolist()
    assert co.scores[order].tolist() == pytest.approx(co_wanted.scores.tolist())
    assert co.best_seed[order].tolist() == co_wanted.best_seed.tolist()
    assert co.n_common[order].tolist() == co_wanted.n_common.tolist()


def like_minded(store: EngagementStore, *texts: object, **more: int | float) -> dict[int, float]:
    given = {"max_per_post": 64, "exclude_user": user("me"), "max_users": 10, "max_engaged": 100, "damping": 0.5}
    found = store.tastes.like_minded(posts(*texts), **{**given, **more})
    return dict(zip(found.user_ids.tolist(), found.similarity.tolist(), strict=True))


def test_similarity_is_what_is_shared_over_the_root_of_how_much_they_do() -> None:
    store = a_store(
        likes(("me", 1), ("me", 2), ("ann", 1), ("ann", 2), ("ann", 3), ("bo", 1), ("bo", 3), ("bo", 4), ("bo", 5))
        + likes(("cy", 1), ("dee", 1), ("dee", 6))
    )
    found = like_minded(store, 1, 2)
    assert found == pytest.approx(
        {user("ann"): 2 / math.sqrt(3), user("dee"): 1 / math.sqrt(2), user("bo"): 1 / math.sqrt(4)}
    )  # not cy, who did nothing else, and not me
    assert list(found) == [user("ann"), user("dee"), user("bo")]


def test_who_likes_everything_is_damped() -> None:
    store = a_store(likes(("ann", 1), ("ann", 2), *(("bo", post) for post in range(1, 10))))
    assert list(like_minded(store, 1, 2, 3, 4)) == [user("bo")]  # ann did nothing else
    assert like_minded(store, 1, 5, max_engaged=9)[user("bo")] == pytest.approx(2 / 3 / 2)


def co_engaged(store: EngagementStore, *texts: object, **more: int) -> dict[int, float]:
    given = {"max_sample": 64, "max_edges": 100, "max_per_user": 64, "min_common": 2, "exclude_user": user("me")}
    found = store.tastes.co_engaged(posts(*texts), **{**given, **more})
    return dict(zip(found.post_ids.tolist(), found.scores.tolist(), strict=True))


WORLD = likes(
    *((viewer, 1) for viewer in ("me", "ann", "bo", "cy")),
    *((viewer, 2) for viewer in ("ann", "bo", "cy")),
    *((viewer, 3) for viewer in ("ann", "bo", "dee")),
    ("cy", 4),
)


def test_the_score_is_the_log_cosine_worked_out_by_hand() -> None:
    found = co_engaged(a_store(WORLD), 1)
    two, three = posts(2, 3).tolist()
    prefactor = 4 / math.log(5) / 3
    assert found == pytest.approx({two: prefactor * 3 / math.log(4), three: prefactor * 2 / math.log(4)})
    assert posts(4)[0] in co_engaged(a_store(WORLD), 1, min_common=1)


def test_users_who_engage_with_everything_are_left_out() -> None:
    store = a_store(WORLD + likes(*(("ann", post) for post in range(100, 110))))
    assert posts(3)[0] in co_engaged(store, 1)
    assert posts(3)[0] not in co_engaged(store, 1, max_edges=10)  # ann is gone, and bo alone is not enough


def test_one_bad_seed_takes_nothing_from_the_others() -> None:
    alone = co_engaged(a_store(WORLD), 1)
    store = a_store(WORLD + likes(("ann", 50), ("bo", 50), ("me", 51)) + [a_post_deleted(50)])
    assert alone
    deleted = posts(50)[0]  # users' own lists still name it: readers look whether a post lives
    for seeds in ((50, "unknown", 51, 1), (1, 51, "unknown", 50)):
        found = co_engaged(store, *seeds)
        assert {post: score for post, score in found.items() if post != deleted} == pytest.approx(alone)
    assert co_engaged(store, 50, "unknown", 51) == {}
    assert co_engaged(store) == {}
