"""What is found out about candidates, over the real stores."""

from pathlib import Path
from typing import Any

import pytest

from millrace.base.actions import Action
from millrace.base.ids import IdKind
from millrace.features.columns import (
    AUTHOR_COUNTS,
    AUTHOR_FOLLOWERS,
    AUTHOR_ID,
    AUTHOR_REPUTATION,
    CONTENT_CREATED_MS,
    CONTENT_ID,
    HAS_POST,
    IS_DELETED,
    IS_MUTUAL,
    IS_SENSITIVE,
    IS_UNSAFE,
    IS_UNSAFE_FOR_STRANGERS,
    OBSERVED_COUNTS,
    PARENT_AUTHOR_ID,
    PARENT_ID,
    POST_COUNTS,
    POST_ID,
    SAFETY_LABELS,
    TOPICS,
)
from millrace.features.query_fields import FOLLOWING
from millrace.mixer.hydrators.authors import AuthorHydrator, MutualHydrator, ReputationHydrator
from millrace.mixer.hydrators.core import CoreHydrator
from millrace.mixer.hydrators.counts import CountsHydrator
from millrace.mixer.hydrators.labels import LabelsHydrator
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.query import Query
from millrace.pipeline.stages import Hydrator
from millrace.stores.config import StoresConfig
from millrace.stores.state import State
from millrace.testing.builders import (
    NOW_MS,
    a_batch_of,
    a_counts_observed,
    a_follow,
    a_label_changed,
    a_post_annotated,
    a_post_created,
    a_post_deleted,
    an_engagement,
)
from millrace.testing.pipeline_builders import a_batch, a_query
from millrace.testing.pipeline_world import FeedWorld


def a_state(*events: Any) -> State:
    state = State(StoresConfig())
    batch = a_batch_of(list(events))
    for fold in state.folds():
        fold.apply(batch)
    return state


def hydrated(stage: Hydrator, batch: CandidateBatch, query: Query | None = None) -> dict[Any, list[Any]]:
    found: Any = stage.hydrate(query or a_query(), batch)
    assert set(found) == set(stage.writes)
    batch.with_columns(found)  # of the declared types and lengths
    return {column: values.tolist() for column, values in found.items()}


def users(state: State, *names: int) -> list[int]:
    return [state.hasher.one(IdKind.USER, str(name)) if name else 0 for name in names]


def posts(state: State, *names: int) -> list[int]:
    return [state.hasher.one(IdKind.POST, str(name)) if name else 0 for name in names]


def test_what_a_viewer_would_see_has_a_time_of_its_own() -> None:
    state = a_state(
        a_post_created(1, 10, at_ms=NOW_MS - 5_000),
        a_post_created(2, 11, kind="repost", parent_id=1, parent_author_id=10, at_ms=NOW_MS - 10),
        a_post_created(3, 11, kind="quote", parent_id=1, parent_author_id=10, at_ms=NOW_MS - 20),
        a_post_created(4, 11, kind="repost", parent_id=99, parent_author_id=10, at_ms=NOW_MS - 30),
    )
    found = hydrated(CoreHydrator(state.posts), a_batch({POST_ID: posts(state, 1, 2, 3, 4, 5)}))
    assert found[CONTENT_ID] == posts(state, 1, 1, 3, 99, 5)
    assert found[CONTENT_CREATED_MS] == [NOW_MS - 5_000, NOW_MS - 5_000, NOW_MS - 20, 0, 0]


def test_deleted_posts_are_told_from_those_never_heard_of() -> None:
    state = a_state(a_post_created(1, 10), a_post_created(2, 10), a_post_deleted(2))
    found = hydrated(CoreHydrator(state.posts), a_batch({POST_ID: posts(state, 1, 2, 3)}))
    assert found[HAS_POST] == [True, False, False]
    assert found[IS_DELETED] == [False, True, False]


def test_authors_are_counted_by_their_followers_and_trusted_until_there_is_a_store() -> None:
    state = a_state(a_follow(20, 10), a_follow(21, 10), a_follow(10, 20))
    batch = a_batch({AUTHOR_ID: users(state, 10, 20, 30)})
    assert hydrated(AuthorHydrator(state.follow_graph), batch)[AUTHOR_FOLLOWERS] == [2, 1, 0]
    assert hydrated(ReputationHydrator(), batch)[AUTHOR_REPUTATION] == [1.0, 1.0, 1.0]


def test_mutual_is_who_follows_and_is_followed() -> None:
    state = a_state(a_follow(20, 10), a_follow(10, 20), a_follow(20, 11), a_follow(12, 20))
    (viewer,) = users(state, 20)
    batch = a_batch({AUTHOR_ID: users(state, 10, 11, 12, 20)})
    query = a_query({FOLLOWING: state.follow_graph.following(viewer)}, viewer_id=viewer)
    assert hydrated(MutualHydrator(state.follow_graph), batch, query)[IS_MUTUAL] == [True, False, False, False]
    assert hydrated(MutualHydrator(state.follow_graph), batch, a_query(viewer_id=viewer))[IS_MUTUAL] == [False] * 4


@pytest.mark.parametrize("carrier", ["post", "author", "parent", "parent's author"])
@pytest.mark.parametrize("label", ["Spam", "nsfw", "harmless"])
def test_labels_of_all_that_a_post_shows_count(carrier: str, label: str) -> None:
    target = {
        "post": {"post_id": 1},
        "author": {"user_id": 10},
        "parent": {"post_id": 5},
        "parent's author": {"user_id": 50},
    }
    state = a_state(a_label_changed("other"), a_label_changed(label, **target[carrier]))
    batch = a_batch(
        {
            POST_ID: posts(state, 1, 2),
            AUTHOR_ID: users(state, 10, 20),
            PARENT_ID: posts(state, 5, 0),
            PARENT_AUTHOR_ID: users(state, 50, 0),
        }
    )
    found = hydrated(LabelsHydrator(state.labels, ["spam", "violence"], ["nsfw"]), batch)
    assert found[IS_UNSAFE] == [label == "Spam", False]
    assert found[IS_UNSAFE_FOR_STRANGERS] == [label == "nsfw", False]
    bit = 0 if label == "harmless" else 1 << state.codes.labels.code(label)
    assert found[SAFETY_LABELS] == [bit, 0]


def test_a_label_that_is_taken_off_counts_no_more() -> None:
    state = a_state(a_label_changed("spam", post_id=1), a_label_changed("spam", post_id=1, is_set=False))
    batch = a_batch({POST_ID: posts(state, 1), AUTHOR_ID: [0], PARENT_ID: [0], PARENT_AUTHOR_ID: [0]})
    assert hydrated(LabelsHydrator(state.labels, ["spam"], []), batch)[IS_UNSAFE] == [False]


def test_what_is_shown_of_a_parent_comes_from_its_row_where_there_is_one() -> None:
    state = a_state(
        a_post_created(2, 11, kind="quote", parent_id=1, parent_author_id=11),
        a_post_created(3, 11, kind="repost", parent_id=1),
        a_post_created(4, 11, kind="reply", parent_id=99, parent_author_id=12),
        a_post_created(1, 10, is_sensitive=True),
        a_post_annotated(1, topics=("cats",)),
        a_post_created(5, 11, kind="repost", parent_id=6, parent_author_id=12, is_sensitive=True),
        a_post_created(6, 12),
    )
    found = hydrated(CoreHydrator(state.posts), a_batch({POST_ID: posts(state, 1, 2, 3, 4, 5, 7)}))
    assert found[PARENT_AUTHOR_ID] == users(state, 0, 10, 10, 12, 12, 0)
    assert found[IS_SENSITIVE] == [True, True, True, False, True, False]
    cats = state.codes.topics.code("cats")
    assert [topics[0] for topics in found[TOPICS]] == [cats, 0, cats, 0, 0, 0]


def test_a_repost_is_known_by_what_was_done_to_the_reposted_post(tmp_path: Path) -> None:
    world = FeedWorld(
        tmp_path,
        [
            a_post_created(1, 10),
            a_post_created(2, 11, kind="repost", parent_id=1, parent_author_id=10),
            *(an_engagement(viewer, 1, "like") for viewer in (31, 32, 33)),
            an_engagement(31, 2, "like"),
            a_counts_observed(1, like=70, impression=900),
        ],
    )
    state = world.state
    batch = a_batch({CONTENT_ID: posts(state, 1, 1), AUTHOR_ID: users(state, 10, 11), TOPICS: [[0, 0, 0]] * 2})
    found = hydrated(CountsHydrator(state.engagements.counters), batch)
    assert [counts[Action.LIKE] for counts in found[POST_COUNTS]] == [3.0, 3.0]
    assert found[OBSERVED_COUNTS][1][Action.LIKE] == 70.0
    assert [counts[Action.LIKE] for counts in found[AUTHOR_COUNTS]] == [3.0, 1.0]
    world.close()
