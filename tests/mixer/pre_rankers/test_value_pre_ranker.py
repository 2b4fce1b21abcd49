"""The pre-ranker in the home feed: who is kept by value, which places are kept, and that nothing is lost by the cut."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.base.actions import Action, ActionSpace
from millrace.base.ids import Int64Array
from millrace.content.text_index import TextIndex
from millrace.features.columns import ACTION_PROBS, IS_IN_NETWORK, POST_ID, PRERANK_SCORE
from millrace.features.encoding.candidates import CandidateInputs
from millrace.features.encoding.viewers import ViewerInputs
from millrace.inference.post_vectors import PostVectors
from millrace.inference.tables import Float32Array
from millrace.mixer.home_models import IS_ON
from millrace.mixer.pre_rankers.value_pre_ranker import (
    BY_COUNTERS,
    MAX_CANDIDATES,
    MIN_IN_NETWORK,
    MIN_PER_SOURCE,
    PrePredictor,
    ValuePreRanker,
)
from millrace.mixer.rankers.counters_ranker import CountersRanker
from millrace.mixer.trace import Trace, TracePacker
from millrace.mixer.trace_reading import TraceReading
from millrace.pipeline.column import PROVENANCE
from millrace.testing.builders import a_follow
from millrace.testing.pipeline_builders import a_batch, a_query
from millrace.testing.pipeline_world import FeedWorld, posts_by

N_ACTIONS = len(Action)
ONLY_VALUE = {MIN_IN_NETWORK.name: 0.0, MIN_PER_SOURCE.name: 0}
MakeWorld = Callable[..., FeedWorld]


class Vectors:
    """No vectors."""

    def write(self, post_ids: Int64Array, out: Float32Array) -> None:
        raise AssertionError("nobody asks")


class Light:
    """Predicts likes of some posts, and reports of others."""

    def __init__(self) -> None:
        self.likes: dict[int, float] = {}
        self.reports: dict[int, float] = {}
        self.n_seen: list[int] = []
        self.n_vectors = 0

    def vectors_over(self, texts: TextIndex) -> PostVectors:
        self.n_vectors += 1
        return Vectors()

    def predict(self, viewer: ViewerInputs, candidates: CandidateInputs, vectors: PostVectors) -> Float32Array:
        assert isinstance(vectors, Vectors)
        self.n_seen.append(candidates.n)
        probs = np.zeros((candidates.n, N_ACTIONS), dtype=np.float32)
        posts = candidates.post_ids.tolist()
        probs[:, Action.LIKE] = [self.likes.get(post, 0.0) for post in posts]
        probs[:, Action.REPORT] = [self.reports.get(post, 0.0) for post in posts]
        return probs


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    made: list[FeedWorld] = []

    def make(model: PrePredictor | None, **params: object) -> FeedWorld:
        events = [a_follow(20, author) for author in range(10, 20)]
        for author in range(10, 20):
            events += posts_by(author, author * 100, author * 100 + 1)
        named = {name.replace("__", "."): value for name, value in params.items()}
        world = FeedWorld(tmp_path, events, params={**ONLY_VALUE, **named}, pre_ranker_of=lambda _query: model)
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


def test_only_the_best_by_value_reach_the_ranker(make_world: MakeWorld) -> None:
    light = Light()
    world = make_world(light, pre_rank__max_candidates=4)
    favourites = [world.post_id(post) for post in (1000, 1100, 1200, 1301, 1400, 1500)]
    light.likes = {post: 0.5 + 0.05 * place for place, post in enumerate(favourites)}
    light.reports = {favourites[-1]: 0.1}
    page, result = world.page_with_result(limit=2)
    assert light.n_seen == [20]
    assert set(result.ranked[POST_ID].tolist()) == set(favourites[1:5])
    assert len(page.posts) == 2
    assert result.n_dropped_by_name() == {"pre_ranker": 16}
    scores = dict(zip(result.pre_ranked[POST_ID].tolist(), result.pre_ranked[PRERANK_SCORE].tolist(), strict=True))
    assert min(scores, key=lambda post: scores[post]) == favourites[-1]


def test_the_params_of_the_value_model_count(make_world: MakeWorld) -> None:
    light = Light()
    world = make_world(light, pre_rank__max_candidates=2, value__weight_report=0.0)
    disputed = world.post_id(1500)
    light.likes, light.reports = {disputed: 0.9}, {disputed: 0.5}
    _, result = world.page_with_result(limit=1)
    assert disputed in result.ranked[POST_ID].tolist()


def test_a_model_keeps_its_vectors_from_request_to_request(make_world: MakeWorld) -> None:
    light = Light()
    world = make_world(light, pre_rank__max_candidates=2)
    world.page(limit=1)
    world.page(limit=1, request_id="r2")
    assert len(light.n_seen) == 2
    assert light.n_vectors == 1


@pytest.mark.parametrize("params", [{}, {"model__is_on": False}])
def test_without_a_model_nothing_is_cut(make_world: MakeWorld, params: dict[str, object]) -> None:
    light = Light()
    assert IS_ON.name == "model.is_on"
    world = make_world(light if params else None, pre_rank__max_candidates=2, **params)
    _, result = world.page_with_result(limit=1)
    assert result.ranked.n == 20
    assert not light.n_seen


def test_without_a_model_counters_may_decide(make_world: MakeWorld) -> None:
    assert BY_COUNTERS.name == "pre_rank.by_counters"
    world = make_world(None, pre_rank__max_candidates=4, pre_rank__by_counters=True)
    _, result = world.page_with_result(limit=2)
    assert result.ranked.n == 4
    ranked = result.ranked
    assert (ranked[ACTION_PROBS][:, Action.LIKE] > 0).all()
    whole = result.pre_ranked[PRERANK_SCORE]
    assert sorted(ranked[PRERANK_SCORE].tolist()) == sorted(whole.tolist())[-4:]


def test_why_tells_of_a_post_that_was_cut(make_world: MakeWorld) -> None:
    light = Light()
    world = make_world(light, pre_rank__max_candidates=2)
    best, cut = world.post_id(1000), world.post_id(1100)
    light.likes = {best: 0.9, world.post_id(1200): 0.8}
    _, result = world.page_with_result(limit=1)
    pipeline = world.service.pipeline
    trace = Trace(TracePacker(pipeline, ActionSpace().names).pack(result))
    why = TraceReading(trace, pipeline).why(trace.row_of(cut), "1100")
    assert (why.verdict, why.dropped_by) == ("dropped", "pre_ranker")
    assert why.summary.startswith("Dropped by pre_ranker: others looked better to the cheap ranker")
    assert TraceReading(trace, pipeline).why(trace.row_of(best), "1000").verdict == "shown"


def test_every_post_comes_onto_some_page_whatever_is_cut(make_world: MakeWorld) -> None:
    world = make_world(Light(), pre_rank__max_candidates=1, page__max_per_author=500)
    found: list[str] = []
    cursor = None
    for number in range(12):
        page = world.home(limit=3, request_id=f"r{number}", cursor=cursor)
        found += [post.post_id for post in page.posts]
        cursor = page.cursor
        if cursor is None:
            break
    assert cursor is None
    assert len(found) == len(set(found)) == 20


def a_pre_ranker(world: FeedWorld) -> ValuePreRanker:
    (stage,) = world.service.pipeline.stages.pre_rankers
    assert isinstance(stage, ValuePreRanker)
    return stage


def test_it_reads_what_its_steps_and_counters_read(make_world: MakeWorld) -> None:
    stage = a_pre_ranker(make_world(None))
    assert set(CountersRanker(ActionSpace()).reads) <= set(stage.reads)
    assert ACTION_PROBS not in stage.reads
    assert MAX_CANDIDATES not in stage.params


@given(
    scores=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60),
    in_network=st.integers(0, 2**60 - 1),
    sources=st.integers(1, 2**62),
    n_kept=st.integers(1, 30),
    frac=st.sampled_from([0.0, 0.2, 0.5]),
    per_source=st.integers(0, 5),
)
def test_places_are_kept_and_the_best_take_the_others(
    scores: list[float], in_network: int, sources: int, n_kept: int, frac: float, per_source: int
) -> None:
    n = len(scores)
    is_in_network = [bool(in_network >> row & 1) for row in range(n)]
    provenance = [1 << (sources >> (2 * (row % 31)) & 3) for row in range(n)]
    batch = a_batch({PRERANK_SCORE: scores, IS_IN_NETWORK: is_in_network, PROVENANCE: provenance})
    query = a_query(params={MIN_IN_NETWORK: frac, MIN_PER_SOURCE: per_source})
    stage = ValuePreRanker.__new__(ValuePreRanker)  # choosing needs no model
    rows = stage.choose(query, batch, n_kept, POST_ID).tolist()
    assert len(rows) == len(set(rows)) == min(n, n_kept)
    best_first = sorted(range(n), key=lambda row: (-scores[row], row))
    networked = [row for row in best_first if is_in_network[row]]
    reserved = set(networked[: int(frac * n_kept)])
    bits = sorted(set(provenance))
    each = min(per_source, n_kept // (2 * len(bits)))
    for bit in bits:
        reserved |= set([row for row in best_first if provenance[row] == bit][:each])
    assert reserved <= set(rows)
    free = [row for row in best_first if row not in reserved][: min(n, n_kept) - len(reserved)]
    assert set(rows) == reserved | set(free)
