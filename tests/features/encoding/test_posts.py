"""A post alone, encoded: the bytes that candidates have of it too, whoever asks and whenever."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from millrace.base.actions import ActionSpace
from millrace.content.ngrams import token_rows
from millrace.events.content_events import Media
from millrace.features.columns import CONTENT_ID
from millrace.features.encoding.candidates import dense_fields
from millrace.features.encoding.encoders import Encoders
from millrace.features.encoding.languages import LanguageRows, language_row
from millrace.features.encoding.posts import POST_TRAITS, PostEncoder, PostInputs
from millrace.testing.builders import NOW_MS, a_follow, a_post_annotated, a_post_created
from millrace.testing.pipeline_world import FeedWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FeedWorld]:
    video = Media(kind="video", duration_ms=30_000)
    made = FeedWorld(
        tmp_path,
        [
            a_follow(20, 10),
            a_post_created(1, 10, text="new rocket", media=(Media(kind="image"), video)),
            a_post_annotated(1, language="en"),
            a_post_created(2, 10, text="see", kind="quote", parent_id=1, media=(Media(kind="audio"),)),
        ],
    )
    yield made
    made.close()


def encoded(world: FeedWorld, *posts: int) -> PostInputs:
    state = world.state
    rows = state.posts.find(np.array([world.post_id(post) for post in posts], dtype=np.int64))
    return PostEncoder(state.posts, state.texts, LanguageRows(state.codes.languages)).encode(rows)


def test_a_post_is_its_text_its_author_its_language_and_what_is_attached(world: FeedWorld) -> None:
    posts = encoded(world, 1, 2)
    assert posts.post_ids.tolist() == [world.post_id(1), world.post_id(2)]
    assert posts.author_ids.tolist() == [world.state.hasher.users(["10"])[0]] * 2
    assert posts.languages.tolist() == [language_row("en"), 0]
    assert (posts.tokens == token_rows(["new rocket", "see"])).all()
    traits = [dict(zip(POST_TRAITS, row, strict=True)) for row in posts.traits.tolist()]
    assert {name for name, value in traits[0].items() if value} == {"image", "video", "duration"}
    assert {name for name, value in traits[1].items() if value} == {"quote", "audio"}
    assert encoded(world).n == 0
    assert posts.take(np.array([1])).post_ids.tolist() == [world.post_id(2)]


def test_candidates_say_the_same_of_it(world: FeedWorld) -> None:
    ranked = world.page_with_result(20)[1].ranked
    candidates = Encoders.of(world.state, world.state.texts, world.state.profile_texts).candidates.encode(
        ranked, NOW_MS, 0
    )
    assert ranked.n == 2
    rows = world.state.posts.find(ranked[CONTENT_ID])
    posts = PostEncoder(world.state.posts, world.state.texts, LanguageRows(world.state.codes.languages)).encode(rows)
    fields = dense_fields(ActionSpace())
    assert (candidates.dense[:, [fields.index(name) for name in POST_TRAITS]] == posts.traits).all()
    assert (candidates.languages == posts.languages).all()
    assert (candidates.author_ids == posts.author_ids).all()
