"""What models saw is logged as they saw it: encoded once, at the state of the page, bounded, and by a fixed choice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from millrace.base.actions import Action, ActionSpace
from millrace.base.ids import IdKind, hash_id
from millrace.base.params import ParamSet
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged, InputsLogged
from millrace.features.columns import ACTION_PROBS, COUNTED_PROBS, INPUT_DENSE, INPUT_LANGUAGE, POST_ID, SCORE
from millrace.features.encoding.candidates import CandidateInputs, schema_hash
from millrace.features.encoding.logged import CUT, RANKED, SERVED, LoggedInputs, from_bits, read_inputs, to_bits
from millrace.features.encoding.vector_inputs import NOTHING, VectorInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.assembler import TokensOf
from millrace.inference.tables import Float32Array
from millrace.mixer.config import HomeConfig
from millrace.mixer.home_models import IS_ON
from millrace.mixer.inputs_log import CANDIDATES_SHARE, FEATURES_SHARE, is_request_logged
from millrace.mixer.side_effects.features_log import CUT_SHARE, LogCandidates
from millrace.pipeline.query import Query
from millrace.pipeline.result import PipelineResult
from millrace.testing.builders import NOW_MS, a_follow, an_engagement
from millrace.testing.pipeline_world import CollectedServed, FeedWorld, many_authors, posts_by

MakeWorld = Callable[..., FeedWorld]
SCHEMA = schema_hash(ActionSpace())
PATIENT = HomeConfig(deadline_ms=60_000, claim_timeout_ms=60_000, is_strict=True)


class Remembering:
    """Predicts a like for everything, and remembers what it read."""

    def __init__(self, *, fails: bool = False) -> None:
        self.read: list[tuple[ViewerInputs, CandidateInputs]] = []
        self._fails = fails

    def predict(
        self, viewer: ViewerInputs, candidates: CandidateInputs, tokens_of: TokensOf, vectors: VectorInputs = NOTHING
    ) -> Float32Array:
        self.read.append((viewer, candidates))
        if self._fails:
            raise RuntimeError("no model today")
        probs = np.zeros((candidates.n, len(Action)), dtype=np.float32)
        probs[:, Action.LIKE] = np.linspace(0.1, 0.9, candidates.n)
        return probs


def world_of(a_world: MakeWorld, **more: object) -> FeedWorld:
    events = [*many_authors(30), a_follow(20, 100), *posts_by(100, 1, 2), an_engagement(20, 1101)]
    return a_world(events, **{"config": PATIENT, **more})


def logged(world: FeedWorld, kind: type[InputsLogged] = FeaturesLogged) -> LoggedInputs:
    """Return the one event of a type, read."""
    (event,) = [event for event in world.features.events if type(event.payload) is kind]
    payload = event.payload
    assert payload.state_offset == (world.position,)
    assert event.event_time_ms == world.clock.now_ms()
    return read_inputs(payload, hash_id(IdKind.USER, payload.viewer_id), SCHEMA)


def same(one: ViewerInputs, other: ViewerInputs) -> bool:
    return one.version() == other.version() and one.history.newest_ms == other.history.newest_ms


def test_what_is_logged_is_what_the_model_read(a_world: MakeWorld) -> None:
    model = Remembering()
    world = world_of(a_world, model=model)
    page, result = world.page_with_result(limit=5)
    found = logged(world)
    ((viewer, candidates),) = model.read
    assert same(found.viewer, viewer)
    assert found.viewer.viewer_id == viewer.viewer_id
    ranked = result.ranked[POST_ID].tolist()
    rows = np.array([ranked.index(world.post_id(post.post_id)) for post in page.posts])
    for one, other in zip(found.rows.inputs, candidates.take(rows), strict=True):
        assert one.tobytes() == other.tobytes()
    assert np.allclose(found.rows.predictions, result.slate[ACTION_PROBS], rtol=0.004)
    assert found.rows.baseline is not None  # what the counters said
    assert np.allclose(found.rows.baseline, result.slate[COUNTED_PROBS], rtol=0.004)
    assert np.array_equal(found.rows.scores, result.slate[SCORE])
    assert set(found.rows.stages.tolist()) == {SERVED}


@pytest.mark.parametrize("how", ["none", "off", "failing"])
def test_pages_without_a_model_are_logged_with_the_same_bytes(a_world: MakeWorld, how: str) -> None:
    """The first models must learn from them."""
    one = world_of(a_world, model=Remembering())
    two = world_of(
        a_world,
        model=None if how == "none" else Remembering(fails=how == "failing"),
        params={} if how == "none" else {IS_ON.name: how != "off"},
        config=HomeConfig(deadline_ms=60_000, claim_timeout_ms=60_000),
    )
    for world in (one, two):
        world.page(limit=50)
    first, second = logged(one), logged(two)
    assert same(first.viewer, second.viewer)
    order, other = (np.argsort(found.rows.post_ids) for found in (first, second))
    assert len(order) == 32
    for a, b in zip(first.rows.inputs.take(order), second.rows.inputs.take(other), strict=True):
        assert a.tobytes() == b.tobytes()
    assert second.rows.baseline is None
    assert (second.rows.predictions[:, Action.LIKE] > 0).all()


def test_all_ranked_candidates_of_a_sampled_request_are_logged(a_world: MakeWorld) -> None:
    world = world_of(a_world, params={CANDIDATES_SHARE.name: 1.0})
    _, result = world.page_with_result(limit=5)
    found = logged(world, CandidatesLogged)
    assert sorted(found.rows.post_ids.tolist()) == sorted(result.ranked[POST_ID].tolist())
    assert (found.rows.propensities == 1).all()
    is_served = found.rows.stages == SERVED
    assert sorted(found.rows.post_ids[is_served].tolist()) == sorted(result.slate[POST_ID].tolist())
    assert set(found.rows.stages[~is_served].tolist()) == {RANKED}
    page = logged(world)
    at = [found.rows.post_ids.tolist().index(post) for post in page.rows.post_ids.tolist()]
    assert found.rows.inputs.take(np.array(at)).dense.tobytes() == page.rows.inputs.dense.tobytes()


def sampled(share: float, *, is_dry_run: bool = False) -> set[str]:
    """Return which of 400 requests are sampled."""
    params = ParamSet({CANDIDATES_SHARE.name: share})
    found = set()
    for i in range(400):
        query = Query(f"r{i}", 20, NOW_MS, 5, params, is_dry_run=is_dry_run)
        if is_request_logged(query):
            found.add(query.request_id)
    return found


def test_the_sampled_share_hangs_on_the_request_alone() -> None:
    few, more = sampled(0.1), sampled(0.5)
    assert few == sampled(0.1)
    assert few < more
    assert 20 <= len(few) <= 65
    assert 150 <= len(more) <= 250
    assert (len(sampled(0.0)), len(sampled(1.0)), len(sampled(1.0, is_dry_run=True))) == (0, 400, 0)


def test_nothing_is_logged_of_what_nobody_gets(a_world: MakeWorld) -> None:
    world = world_of(a_world, params={CANDIDATES_SHARE.name: 1.0})
    world.page(is_dry_run=True)
    assert world.features.events == []
    quiet = world_of(a_world, params={FEATURES_SHARE.name: 0.0, CANDIDATES_SHARE.name: 0.0})
    quiet.page()
    assert quiet.features.events == []


def test_an_event_is_bounded_and_propensities_tell_what_was_left_out(a_world: MakeWorld) -> None:
    smallest = HomeConfig(deadline_ms=60_000, claim_timeout_ms=60_000, is_strict=True, max_features_bytes=16_384)
    world = a_world(many_authors(200), config=smallest, params={CANDIDATES_SHARE.name: 1.0})
    _, result = world.page_with_result(limit=5)
    found = logged(world, CandidatesLogged)
    assert 50 < len(found.rows) < result.ranked.n
    assert np.allclose(found.rows.propensities, len(found.rows) / result.ranked.n)
    assert len(logged(world).rows) == 5


def with_a_cut(result: PipelineResult, n_ranked: int) -> PipelineResult:
    """Return a result as if a pre-ranker had encoded all and kept the first ones."""
    return replace(
        result,
        pre_ranked=result.ranked,
        pre_ranked_rows=result.ranked_rows,
        ranked=result.ranked.take(np.arange(n_ranked)),
        ranked_rows=result.ranked_rows[:n_ranked],
        slate_rows=result.ranked_rows[:2],
    )


def cut_candidates(world: FeedWorld, result: PipelineResult, request_id: str) -> LoggedInputs:
    kept = CollectedServed()
    stage = LogCandidates(kept, "home", ActionSpace(), max_bytes=1 << 18)
    query = replace(result.query, request_id=request_id)
    asyncio.run(stage.run(query, replace(result, query=query)))
    (event,) = kept.events
    return read_inputs(event.payload, 1, SCHEMA)


def test_a_random_share_of_what_a_pre_ranker_cut_is_logged(a_world: MakeWorld) -> None:
    world = world_of(a_world, params={CANDIDATES_SHARE.name: 1.0, CUT_SHARE.name: 0.25})
    _, whole = world.page_with_result(limit=5)
    result = with_a_cut(whole, 12)
    n_cut = []
    for i in range(40):
        found = cut_candidates(world, result, f"x{i}").rows
        is_cut = found.stages == CUT
        assert (~is_cut).sum() == 12
        assert (found.propensities[is_cut] == 0.25).all()
        assert (found.propensities[~is_cut] == 1.0).all()
        assert np.isnan(found.predictions[is_cut]).all()
        assert set(found.post_ids[is_cut].tolist()) <= set(whole.ranked[POST_ID][12:].tolist())
        n_cut.append(int(is_cut.sum()))
    assert np.mean(n_cut) == pytest.approx(0.25 * (whole.ranked.n - 12), rel=0.3)
    assert len(set(n_cut)) > 1
    assert (
        cut_candidates(world, result, "x1").rows.post_ids.tolist()
        == cut_candidates(world, result, "x1").rows.post_ids.tolist()
    )


def test_predictions_are_kept_to_three_digits_at_any_size() -> None:
    values = np.array([0.0, 1e-9, 3e-5, 0.123456, 0.999, 1.0, 86_400.0], dtype=np.float32)
    assert np.allclose(from_bits(to_bits(values)), values, rtol=0.004, atol=0)
    assert np.isnan(from_bits(to_bits(np.array([np.nan], dtype=np.float32)))).all()


def test_an_encoded_row_is_never_all_zeros(a_world: MakeWorld) -> None:
    world = world_of(a_world)
    _, result = world.page_with_result(limit=5)
    assert result.slate[INPUT_DENSE].any(axis=1).all()
    assert result.slate[INPUT_LANGUAGE].dtype == np.uint8
    assert not result.ranked[INPUT_DENSE].any()
