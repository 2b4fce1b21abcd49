"""The near-line layer on a page: it changes what the ranker says where the log says so, and tells what it changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from millrace.base.actions import Action, ActionSpace
from millrace.base.ids import IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import FeaturesLogged
from millrace.events.near_line_events import NearLineUpdated
from millrace.events.packed import pack_arrays
from millrace.features.columns import ACTION_PROBS, COUNTED_PROBS, DEEP_PROBS, POST_ID
from millrace.features.encoding.candidates import CandidateInputs, schema_hash
from millrace.features.encoding.logged import read_inputs
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.features.hashed_crosses import FIELDS, cross_slots
from millrace.inference.assembler import TokensOf
from millrace.inference.tables import Float32Array
from millrace.mixer.rankers.near_line import CALIBRATES, FAST_LAYER
from millrace.mixer.trace import Trace, TracePacker
from millrace.mixer.trace_reading import TraceReading
from millrace.mixer.why import WhyReader
from millrace.testing.builders import an_event
from millrace.testing.pipeline_world import FeedWorld, many_authors

MakeWorld = Callable[..., FeedWorld]
H = len(ActionSpace())
N_SLOTS = 1 << 12


class Flat:
    """Predicts a tenth for everything; fails where it is told to."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails

    def predict(
        self, viewer: ViewerInputs, candidates: CandidateInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING
    ) -> Float32Array:
        if self._fails:
            raise RuntimeError("no model today")
        return np.full((candidates.n, H), 0.1, dtype=np.float32)


def an_update(model: str = "v1", *, post: str = "1105", shift: float = 0.0, weight: float = 2.0) -> AnyEvent:
    """Return what lifts the likes of one post, and calibrates shares."""
    slots = cross_slots(0, np.array([hash_id(IdKind.POST, post)]), np.zeros(1, np.int64), 0, N_SLOTS)
    ones = np.ones(H, dtype=np.float32)
    weights = np.zeros((1, H), dtype=np.float32)
    weights[0, Action.LIKE] = weight
    arrays = {
        "slopes": ones,
        "shifts": shift * (np.arange(H) == Action.SHARE).astype(np.float32),
        "is_calibrated": (np.arange(H) == Action.SHARE).astype(np.uint8) * bool(shift),
        "fast_gates": (np.arange(H) == Action.LIKE).astype(np.float32),
        "slots": slots[:, FIELDS.index("post")],
        "weights": weights,
    }
    return an_event(NearLineUpdated(model=model, n_slots=N_SLOTS, arrays=pack_arrays(arrays)), event_id="u1")


def world_of(a_world: MakeWorld, *more: AnyEvent, model: Flat | None = None, **options: object) -> FeedWorld:
    world = a_world(many_authors(20), model=model or Flat(), versions={"ranker": "v1"}, **options)
    if more:
        world.hear(more)
    return world


def test_a_post_that_has_become_the_talk_of_the_town_comes_first(a_world: MakeWorld) -> None:
    page, result = world_of(a_world, an_update(shift=0.5)).page_with_result(limit=5)
    assert page.posts[0].post_id == "1105"
    row = result.ranked[POST_ID].tolist().index(hash_id(IdKind.POST, "1105"))
    probs, deep = result.ranked[ACTION_PROBS], result.ranked[DEEP_PROBS]
    assert np.isclose(probs[row, Action.LIKE], 1 / (1 + 9 * np.exp(-2)), atol=1e-5)
    assert np.isclose(probs[row, Action.SHARE], 1 / (1 + 9 * np.exp(-0.5)), atol=1e-5)
    assert (deep == np.float32(0.1)).all()
    assert (probs[:, Action.REPLY] == np.float32(0.1)).all()


def test_why_tells_what_it_did_and_so_does_the_trace(a_world: MakeWorld) -> None:
    world = world_of(a_world, an_update(shift=0.5))
    _, result = world.page_with_result(limit=5)
    pipeline = world.service.pipeline
    told = WhyReader(pipeline.stages.rankers, ActionSpace().names).explain(result.query, result.ranked)
    why = told[result.ranked[POST_ID].tolist().index(hash_id(IdKind.POST, "1105"))]
    assert why.actions["like"].fast_shift == pytest.approx(2.0)
    assert why.actions["like"].calibration_shift == pytest.approx(0.0, abs=1e-4)
    trace = Trace(TracePacker(pipeline, ActionSpace().names).pack(result))
    explained = TraceReading(trace, pipeline).why(trace.row_of(hash_id(IdKind.POST, "1105")), "1105")
    parts = {part.name: part for part in explained.actions}
    assert parts["like"].fast_shift == pytest.approx(2.0)
    assert parts["share"].calibration_shift == pytest.approx(0.5, abs=1e-4)
    assert parts["reply"].calibration_shift == parts["reply"].fast_shift == 0


def test_a_page_without_a_layer_is_as_it_was_and_says_nothing(a_world: MakeWorld) -> None:
    plain, result = world_of(a_world).page_with_result(limit=5)
    other, _ = world_of(a_world, an_update("v2")).page_with_result(limit=5)
    assert [post.post_id for post in plain.posts] == [post.post_id for post in other.posts]
    assert DEEP_PROBS not in result.ranked or not result.ranked[DEEP_PROBS].any()
    why = plain.posts[0].why
    assert why is not None
    assert {action.fast_shift for action in why.actions.values()} == {0.0}
    assert {action.calibration_shift for action in why.actions.values()} == {0.0}


def test_params_switch_each_part(a_world: MakeWorld) -> None:
    off = {FAST_LAYER.name: 0.0, CALIBRATES.name: False}
    _, result = world_of(a_world, an_update(shift=0.5), params=off).page_with_result(limit=5)
    assert (result.ranked[ACTION_PROBS] == np.float32(0.1)).all()
    _, result = world_of(a_world, an_update(shift=0.5), params={FAST_LAYER.name: 0.5}).page_with_result(limit=5)
    best = result.ranked[ACTION_PROBS][:, Action.LIKE].max()
    assert np.isclose(best, 1 / (1 + 9 * np.exp(-1)), atol=1e-5)


def test_what_counters_predicted_in_the_ranker_s_place_is_left_alone(a_world: MakeWorld) -> None:
    from millrace.mixer.config import HomeConfig

    patient = HomeConfig(deadline_ms=60_000, claim_timeout_ms=60_000, is_strict=False)
    world = world_of(a_world, an_update(shift=0.5), model=Flat(fails=True), config=patient)
    _, result = world.page_with_result(limit=5)
    assert COUNTED_PROBS not in result.ranked or not result.ranked[COUNTED_PROBS].any()
    assert DEEP_PROBS not in result.ranked or not result.ranked[DEEP_PROBS].any()


def test_what_the_ranker_said_itself_is_logged_beside_what_was_ranked_by(a_world: MakeWorld) -> None:
    world = world_of(a_world, an_update(shift=0.5))
    world.page(limit=5)
    (payload,) = [e.payload for e in world.features.events if isinstance(e.payload, FeaturesLogged)]
    rows = read_inputs(payload, hash_id(IdKind.USER, "20"), schema_hash(ActionSpace())).rows
    assert rows.deep is not None
    np.testing.assert_allclose(rows.deep, 0.1, rtol=5e-3)
    assert rows.predictions[0, Action.LIKE] > 0.4
    plain = world_of(a_world)
    plain.page(limit=5)
    (payload,) = [e.payload for e in plain.features.events if isinstance(e.payload, FeaturesLogged)]
    assert read_inputs(payload, 1, schema_hash(ActionSpace())).rows.deep is None
