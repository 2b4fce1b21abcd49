"""Encoders over real stores: what a viewer and a candidate become, and what their version depends on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from millrace.base.actions import Action, ActionSpace
from millrace.base.ids import IdKind
from millrace.content.ngrams import token_rows
from millrace.events.content_events import Media
from millrace.features.encoding.buckets import log_buckets, minute_buckets
from millrace.features.encoding.candidates import CandidateInputs, dense_fields, schema_hash
from millrace.features.encoding.encoders import Encoders
from millrace.features.encoding.languages import language_row
from millrace.features.encoding.viewers import ViewerInputs
from millrace.testing.builders import (
    NOW_MS,
    a_follow,
    a_post_annotated,
    a_post_created,
    a_profile_updated,
    an_engagement,
    an_impression,
)
from millrace.testing.pipeline_world import FeedWorld

FIELDS = dense_fields(ActionSpace())
MINUTE_MS = 60_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FeedWorld]:
    made = FeedWorld(
        tmp_path,
        [
            a_profile_updated(20, bio="tea and rockets", languages=("en", "ja")),
            a_profile_updated(10, is_verified=True),
            a_follow(20, 10),
            a_post_created(1, 10, text="old post", at_ms=NOW_MS - 600 * MINUTE_MS),
            an_impression(20, 1, dwell_ms=9_000, at_ms=NOW_MS - 100 * MINUTE_MS),
            an_engagement(20, 1, "like", at_ms=NOW_MS - 99 * MINUTE_MS),
            a_post_created(
                2,
                10,
                text="new rocket",
                media=(Media(kind="image"),),
                at_ms=NOW_MS - 60 * MINUTE_MS,
            ),
            a_post_annotated(2, language="en", at_ms=NOW_MS - 59 * MINUTE_MS),
            an_engagement(30, 2, "like", at_ms=NOW_MS - 50 * MINUTE_MS),
        ],
    )
    yield made
    made.close()


def encoders_of(world: FeedWorld) -> Encoders:
    return Encoders.of(world.state, world.state.texts, world.state.profile_texts)


def viewer_of(world: FeedWorld, user: str = "20") -> ViewerInputs:
    return encoders_of(world).viewers.encode(world.state.hasher.one(IdKind.USER, user))


def candidates_of(world: FeedWorld, newest_ms: int) -> CandidateInputs:
    ranked = world.page_with_result(20)[1].ranked
    return encoders_of(world).candidates.encode(ranked, NOW_MS, newest_ms)


def field(inputs: CandidateInputs, name: str) -> int:
    return int(inputs.dense[0, FIELDS.index(name)])


def test_a_viewer_is_what_they_did_and_what_they_say_of_themselves(world: FeedWorld) -> None:
    viewer = viewer_of(world)
    assert viewer.history.post_ids.tolist() == [world.post_id(1)]
    assert int(viewer.history.actions[0]) == 1 << Action.LIKE | 1 << Action.DWELL
    assert viewer.languages.tolist() == [language_row("en"), language_row("ja"), 0, 0]
    assert viewer.bio.tolist() == token_rows(["tea and rockets"])[0].tolist()
    assert viewer.dense[0] == log_buckets(np.array([1]))[0]


def test_a_version_changes_when_the_viewer_acts_and_not_with_time(world: FeedWorld) -> None:
    before = viewer_of(world).version()
    world.clock.set_ms(NOW_MS + 600 * MINUTE_MS)
    world.hear([an_engagement(30, 1, "like", at_ms=NOW_MS)])
    assert viewer_of(world).version() == before
    world.hear([an_engagement(20, 2, "like", at_ms=NOW_MS)])
    assert viewer_of(world).version() != before


def test_a_viewer_of_whom_nothing_is_known_is_empty(world: FeedWorld) -> None:
    viewer = viewer_of(world, "nobody")
    assert viewer.history.n == 0
    assert not viewer.dense.any()
    assert not viewer.languages.any()


def test_a_candidate_is_ids_language_and_a_byte_for_each_fact(world: FeedWorld) -> None:
    viewer = viewer_of(world)
    found = candidates_of(world, viewer.history.newest_ms)
    assert found.post_ids.tolist() == [world.post_id(2)]
    assert found.languages.tolist() == [language_row("en")]
    assert field(found, "age") == minute_buckets(np.array([60 * MINUTE_MS]))[0]
    assert field(found, "since_newest") == minute_buckets(np.array([99 * MINUTE_MS]))[0]
    flags = {
        name: field(found, name) > 0 for name in ("in_network", "mutual", "image", "video", "link", "author_verified")
    }
    assert flags == {
        "in_network": True,
        "mutual": False,
        "image": True,
        "video": False,
        "link": False,
        "author_verified": True,
    }
    assert field(found, "post:like") == log_buckets(np.array([1.0]))[0]
    assert field(found, "author:like") > field(found, "post:like")
    assert field(found, "affinity") > 0
    assert found.dense.shape == (1, len(FIELDS))


def test_the_schema_depends_on_the_heads() -> None:
    assert schema_hash(ActionSpace()) == schema_hash(ActionSpace())
    assert schema_hash(ActionSpace()) != schema_hash(ActionSpace(("purchase",)))
