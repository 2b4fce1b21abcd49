"""The learned ranker in the home feed: its predictions take the counters' place, and theirs hold where it fails."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from millrace.base.actions import Action
from millrace.features.columns import ACTION_PROBS, POST_ID
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import TokensOf
from millrace.inference.tables import Float32Array
from millrace.mixer.config import HomeConfig
from millrace.mixer.home_models import IS_ON, Predictor
from millrace.testing.builders import a_follow
from millrace.testing.pipeline_world import FeedWorld, posts_by

N_ACTIONS = len(Action)
MakeWorld = Callable[..., FeedWorld]


class Favourite:
    """Predicts a like for one post and for no other."""

    def __init__(self, post_id: int = 0) -> None:
        self.post_id = post_id
        self.viewers: list[int] = []

    def predict(
        self, viewer: ViewerInputs, candidates: CandidateInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING
    ) -> Float32Array:
        self.viewers.append(viewer.viewer_id)
        assert tokens_of(candidates.post_ids).shape == (candidates.n, 64)
        probs = np.zeros((candidates.n, N_ACTIONS), dtype=np.float32)
        probs[candidates.post_ids == self.post_id, Action.LIKE] = 0.9
        return probs


class Broken:
    """Always fails."""

    def predict(
        self, viewer: ViewerInputs, candidates: CandidateInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING
    ) -> Float32Array:
        raise RuntimeError("no model today")


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    made: list[FeedWorld] = []

    def make(model: Predictor, **more: object) -> FeedWorld:
        events = [a_follow(20, 10), a_follow(20, 11), *posts_by(10, 1, 2), *posts_by(11, 3, 4)]
        world = FeedWorld(tmp_path, events, model=model, **more)  # type: ignore[arg-type]
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


def test_what_the_model_likes_comes_first(make_world: MakeWorld) -> None:
    favourite = Favourite()
    world = make_world(favourite)
    favourite.post_id = world.post_id(3)
    page, result = world.page_with_result()
    assert page.posts[0].post_id == "3"
    likes = dict(
        zip(result.ranked[POST_ID].tolist(), result.ranked[ACTION_PROBS][:, Action.LIKE].tolist(), strict=True)
    )
    assert likes.pop(favourite.post_id) == pytest.approx(0.9)
    assert set(likes.values()) == {0.0}
    assert len(favourite.viewers) == 1


def test_where_the_model_fails_counters_predict_and_the_page_says_so(make_world: MakeWorld) -> None:
    world = make_world(Broken(), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    page, result = world.page_with_result()
    assert len(page.posts) == 4
    assert (result.ranked[ACTION_PROBS][:, Action.LIKE] > 0).all()
    assert [(outcome.component, outcome.stage) for outcome in result.report.outcomes] == [("model", "ranker")]


def test_it_can_be_switched_off_by_request(make_world: MakeWorld) -> None:
    favourite = Favourite()
    world = make_world(favourite, params={IS_ON.name: False})
    assert len(world.page().posts) == 4
    assert not favourite.viewers
