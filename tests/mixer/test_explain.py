"""Why a post is on a page, or why not: every verdict, in words and to the last multiplier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from millrace.base.actions import ActionSpace
from millrace.base.errors import NotFoundError, SchemaError
from millrace.base.params import Param
from millrace.events.envelope import AnyEvent
from millrace.features.columns import (
    ACTION_PROBS,
    DIVERSITY,
    IS_IN_NETWORK,
    PAGE_SCORE,
    POST_ID,
    SCORE,
    SOCIAL_BONUS,
)
from millrace.features.query_fields import CONTEXT, VIEWER
from millrace.mixer.config import HomeConfig
from millrace.mixer.explain import Explainer
from millrace.mixer.feed import FeedRequest
from millrace.mixer.home_models import MODELS
from millrace.mixer.home_pipeline import HomeParts, home_dims, home_stages
from millrace.mixer.sources.recent import ONLY_BELOW
from millrace.mixer.trace import Trace, TracePacker
from millrace.mixer.trace_answers import GONE, PostWhy, RequestTrace
from millrace.mixer.value_model.steps import Bonus
from millrace.mixer.value_model.weights import Float32Array
from millrace.pipeline.batch import CandidateBatch
from millrace.pipeline.pipeline import Pipeline
from millrace.pipeline.query import Query
from millrace.pipeline.result import PipelineResult
from millrace.pipeline.stages import ColumnValues, ReRanker
from millrace.stores.claims import Claimed, MemoryClaims
from millrace.testing.builders import (
    NOW_MS,
    a_block,
    a_follow,
    a_post_created,
    a_post_deleted,
    an_engagement,
    an_impression,
)
from millrace.testing.pipeline_builders import a_query
from millrace.testing.pipeline_fakes import FakeSource, SlowSource, TopSelector
from millrace.testing.pipeline_world import FeedWorld

HOUR_MS = 3_600_000
World = Callable[..., FeedWorld]
STEPS = [
    ("recency", "multiply"),
    ("social", "add"),
    ("new_author_lift", "multiply"),
    ("author_decay", "multiply"),
    ("out_of_network", "multiply"),
]


def a_post(post: int | str, author: int, hours_ago: float = 1, **fields: Any) -> AnyEvent:
    return a_post_created(post, author, text=f"text {post}", at_ms=NOW_MS - int(hours_ago * HOUR_MS), **fields)


def many(n: int) -> list[AnyEvent]:
    """One post each by ``n`` authors, each a minute older than the one before."""
    return [a_post(1_000 + k, 500 + k, hours_ago=1 + k / 60) for k in range(n)]


class Asked:
    """A page of a world, and questions about it."""

    def __init__(self, world: FeedWorld, **request: Any) -> None:
        self.world = world
        self.page, self.result = world.page_with_result(**request)
        self.trace = world.service.traces.of(self.result)

    def why(self, post: int | str, **more: Any) -> PostWhy:
        return asyncio.run(self.world.service.explainer.why(self.trace, str(post), **more))

    def request(self, **more: Any) -> RequestTrace:
        return asyncio.run(self.world.service.explainer.request(self.trace, **more))


# --------------------------------------------------------------------------------------------- verdicts


def test_a_post_on_the_page_is_explained_to_the_last_multiplier(a_world: World) -> None:
    likes = [an_engagement(viewer, 2, "like") for viewer in range(50, 60)]
    asked = Asked(a_world([a_follow(20, 10), a_post(1, 10), a_post(2, 30), *many(5), *likes]))
    for position, post in enumerate(asked.page.posts, start=1):
        why = asked.why(post.post_id)
        assert (why.verdict, why.position, why.sources) == ("shown", position, post.sources)
        assert not why.approximate
        assert sum(part.contribution for part in why.actions) == pytest.approx(why.value, abs=1e-6)
        sizes = [abs(part.contribution) for part in why.actions]
        assert sizes == sorted(sizes, reverse=True)
        assert post.why is not None
        assert {part.name for part in why.actions[:3]} == set(post.why.actions)
        score = why.offset_value
        assert score is not None
        for step in why.steps:
            score = score * step.amount if step.kind == "multiply" else score + step.amount
            assert step.score_after == pytest.approx(score, rel=1e-12)
        assert [(step.name, step.kind) for step in why.steps] == STEPS
        assert why.steps[-1].score_after == pytest.approx(post.score, rel=1e-6)
        assert why.score == pytest.approx(post.score, rel=1e-6)
        assert why.page_score == len(asked.page.posts) + 1 - position
    ranks = [asked.why(post.post_id).rank for post in asked.page.posts]
    assert ranks == list(range(1, len(ranks) + 1))
    first = asked.page.posts[0].post_id
    assert asked.why(first).summary.startswith("Shown at place 1. Found by ")
    assert asked.why("1").summary.count("in_network (1 of 1)") == 1


def test_complete_weighs_nothing_for_short_videos(a_world: World) -> None:
    asked = Asked(a_world([a_post(1, 10)]))
    (complete,) = (part for part in asked.why(1).actions if part.name == "complete")
    assert (complete.weight, complete.contribution) == (0, 0)
    assert complete.probability > 0


def test_a_post_that_others_came_before_says_so(a_world: World) -> None:
    asked = Asked(a_world(many(40)), limit=10)
    why = asked.why(1_030)
    assert (why.verdict, why.position, why.rank) == ("ranked_below", None, 31)
    assert "Ranked 31 of 40 by score. After re-ranking it stood at 31; the page went down to 10." in why.summary
    assert why.score is not None
    assert why.score < asked.page.posts[-1].score
    assert len(why.steps) == len(STEPS)


def test_a_post_that_the_selector_left_out_says_so(a_world: World) -> None:
    asked = Asked(a_world([a_follow(20, 10), *(a_post(n, 10, n / 10) for n in range(1, 6)), a_post(9, 30, 40)]))
    assert [post.post_id for post in asked.page.posts] == ["1", "2", "3", "9"]
    why = asked.why(4)
    assert why.verdict == "ranked_below"
    assert why.rank == 4
    assert (
        "stood at 4, but a rule of the selector left it out (page: takes the best by page score: few of an author"
        in why.summary
    )


@pytest.mark.parametrize(
    ("event", "filter_name", "because"),
    [
        (a_post(1, 10, hours_ago=49.5), "age", "49.5 hours old; the limit is 48"),
        (an_impression(20, 1), "seen", "Drops posts that were on the viewer's screen"),
        (a_block(20, 10), "blocked_author", "Drops posts by accounts that the viewer blocks."),
        (a_block(30, 20), "blocked_parent", "Drops reposts, quotes and replies whose other author the viewer blocks"),
    ],
    ids=["age", "seen", "block", "parent"],
)
def test_a_dropped_post_names_the_filter_and_its_reason(
    a_world: World, event: AnyEvent, filter_name: str, because: str
) -> None:
    quote = a_post(1, 10, kind="quote", parent_id=7, parent_author_id=30)
    follow = a_follow(20, 10)
    events = [event, follow] if filter_name == "age" else [quote, follow, event]
    if filter_name == "age":  # the home feed's own sources return nothing that old
        world = a_world(events)
        found = FakeSource({POST_ID: [world.post_id(1)]})
        why = _with_sources(world, found)(1)
    else:
        why = Asked(a_world(events)).why(1)
    assert (why.verdict, why.dropped_by) == ("dropped", filter_name)
    assert why.dropped_because is not None
    assert why.dropped_because.startswith(because)
    assert why.summary.startswith(f"Dropped by {filter_name}: {because[:1].lower()}{because[1:20]}")
    assert (why.rank, why.actions, why.score) == (None, (), None)


def test_a_post_that_another_request_claimed_is_dropped_and_still_shows_its_score(a_world: World) -> None:
    ids = np.array([a_world().post_id(1_000)])
    created = np.array([NOW_MS - HOUR_MS])

    class Overtaken(MemoryClaims):
        """Another request gets there between this one's look at the claims and its own claim."""

        def claimed(self, viewer_id: int, now_ms: int) -> Claimed:
            before = super().claimed(viewer_id, now_ms)
            self.claim(viewer_id, ids, created, owner="another", now_ms=now_ms, ttl_ms=HOUR_MS, max_claims=99)
            return before

    world = a_world(many(3), claims=Overtaken())
    why = Asked(world).why(1_000)
    assert (why.verdict, why.dropped_by, why.rank) == ("dropped", "claims", 1)
    assert why.score is not None
    later = Asked(world, request_id="later").why(1_000)
    assert later.verdict == "not_retrieved"
    assert {r.source: r.reason for r in later.not_retrieved}["popular"].startswith("it left for you before")


def test_what_could_not_be_checked_is_said_to_be_dropped_for_that(a_world: World) -> None:
    world = a_world(many(2), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    world.service.pipeline.stages.query_hydrators[1]._relations = None  # type: ignore[attr-defined]
    why = Asked(world).why(1_000)
    assert why.dropped_by == "blocked_author"
    assert why.dropped_because == "could not be checked (blocked is missing), and what cannot be checked is not shown"


def test_what_an_error_says_is_for_operators(a_world: World) -> None:
    world = a_world(many(2), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    world.service.pipeline.stages.query_hydrators[1]._relations = None  # type: ignore[attr-defined]
    asked = Asked(world)
    operator, viewer = asked.request(), asked.request(with_errors=False)
    assert any("NoneType" in outcome.detail for outcome in operator.outcomes)
    assert [outcome.detail for outcome in viewer.outcomes] == [""] * len(operator.outcomes)
    assert [(o.component, o.fate) for o in viewer.outcomes] == [(o.component, o.fate) for o in operator.outcomes]
    because = "could not be checked, and what cannot be checked is not shown"
    assert asked.why(1_000, with_errors=False).dropped_because == because


def test_a_post_that_no_source_returned_asks_each_source_as_things_stand_now(a_world: World) -> None:
    world = a_world([a_follow(20, 10), a_post("mine", 10), a_post("other", 30, hours_ago=60)])
    asked = Asked(world)
    why = asked.why("other")
    assert (why.verdict, why.sources, why.position) == ("not_retrieved", (), None)
    assert "as things stand now" in why.summary
    assert [reason.source for reason in why.not_retrieved] == list(world.service.pipeline.source_names)
    assert why.not_retrieved[0].reason.endswith("it returned 1")


def test_posts_that_nobody_knows_are_refused(a_world: World) -> None:
    asked = Asked(a_world([a_post(1, 10)]))
    with pytest.raises(NotFoundError, match="post 'nope': was no candidate"):
        asked.why("nope")
    with pytest.raises(SchemaError, match="post id"):
        asked.why("")
    with pytest.raises(SchemaError, match="post id"):
        asked.why("a\nb")


def test_a_post_that_was_deleted_since_can_still_be_asked_about(a_world: World) -> None:
    world = a_world(many(3))
    asked = Asked(world)
    world.hear([a_post_deleted(1_001)])
    assert asked.why(1_001).verdict == "shown"
    assert asked.request().posts == ("1000", GONE, "1002")


# -------------------------------------------------------------------------- sources, steps, re-rankers


class SaysWhy(FakeSource):
    """Finds given posts; says why it did not find others."""

    cap = Param("says_why.max_posts", 2, 0, 10, "most posts")

    def __init__(self, post_ids: list[int]) -> None:
        super().__init__({POST_ID: post_ids}, name="says_why", cap=self.cap)

    def explain(self, query: Query, key: int) -> str:
        return f"viewer {query[VIEWER]} does not follow its author"


class Confused(FakeSource):
    """Finds nothing, and cannot say why."""

    def __init__(self) -> None:
        super().__init__({POST_ID: []}, name="confused")

    def explain(self, query: Query, key: int) -> str:
        raise LookupError("no idea")


def _pipeline(world: FeedWorld, change: Callable[[Any], Any], *, is_strict: bool = False) -> Pipeline:
    actions = ActionSpace()
    parts = HomeParts(
        state=world.state, content=world.content, claims=MemoryClaims(), actions=actions, clock=world.clock
    )
    return Pipeline(
        "home",
        change(home_stages(parts, HomeConfig())),
        key=POST_ID,
        dims=home_dims(actions),
        clock=world.clock,
        given=(VIEWER, CONTEXT, MODELS),
        is_strict=is_strict,
    )


def _explained(world: FeedWorld, pipeline: Pipeline, **query: Any) -> tuple[PipelineResult, Callable[..., PostWhy]]:
    viewer_id = int(world.state.hasher.users(["20"])[0])
    wanted = a_query({VIEWER: "20"}, viewer_id=viewer_id, state_offset=(world.position,), **query)
    result = asyncio.run(pipeline.execute(wanted))
    trace = Trace(TracePacker(pipeline, ActionSpace().names).pack(result))
    explainer = Explainer(world, {"home": pipeline}, world.content, world.state.hasher, world.clock)
    return result, lambda post, **more: asyncio.run(explainer.why(trace, str(post), **more))


def _with_sources(world: FeedWorld, *sources: Any, **query: Any) -> Callable[..., PostWhy]:
    pipeline = _pipeline(world, lambda stages: replace(stages, sources=_filling(stages, sources)))
    return _explained(world, pipeline, **query)[1]


def _filling(stages: Any, sources: tuple[Any, ...]) -> tuple[Any, ...]:
    """The given sources first; the home feed's own write the columns that later stages read."""
    return (*sources, *stages.sources)


def test_every_source_says_its_own_reason(a_world: World) -> None:
    world = a_world([a_post("far", 30, hours_ago=60), *many(3)])
    ids = [world.post_id(1_000 + k) for k in range(3)]
    ask = _with_sources(world, SaysWhy(ids), Confused(), SlowSource([1], timeout_ms=0.1))
    reasons = {reason.source: reason.reason for reason in ask("far").not_retrieved}
    assert reasons["says_why"] == "viewer 20 does not follow its author; it returned its full cap of 2"
    assert reasons["confused"] == "cannot say (LookupError: no idea); it returned 0"
    assert reasons["slow"].startswith("was late, so what it found was not used (no answer after ")
    for_viewers = {reason.source: reason.reason for reason in ask("far", with_errors=False).not_retrieved}
    assert for_viewers["confused"] == "cannot say; it returned 0"
    assert for_viewers["slow"] == "was late, so what it found was not used"


def test_a_last_resort_that_was_not_needed_says_so(a_world: World) -> None:
    world = a_world([a_post("far", 30, hours_ago=60), *many(50)])
    why = _with_sources(world, SaysWhy([world.post_id(1_000 + n) for n in range(50)]), params={ONLY_BELOW: 1})("far")
    reasons = {reason.source: reason.reason for reason in why.not_retrieved}
    assert reasons["recent"] == "took no part: it is a last resort"


class Extra(Bonus):
    """Adds something for those whom the viewer does not follow."""

    name = "extra"
    reads = (IS_IN_NETWORK, SCORE)
    writes = (SOCIAL_BONUS, SCORE)
    amount_column = SOCIAL_BONUS

    def amount(self, query: Query, batch: CandidateBatch) -> Float32Array:
        return np.where(batch[IS_IN_NETWORK], 0.0, 0.25).astype(np.float32)


class Reversing(ReRanker):
    """Turns the order round."""

    name = "reversing"
    reads = (SCORE,)
    writes = (DIVERSITY, PAGE_SCORE)

    def rank(self, query: Query, batch: CandidateBatch) -> ColumnValues:
        return {DIVERSITY: np.ones(batch.n, dtype=np.int8), PAGE_SCORE: -batch[SCORE]}

    def explain(self, batch: CandidateBatch, row: int) -> str:
        return f"{'chosen' if batch[DIVERSITY][row] == 1 else 'not'} with {batch[PAGE_SCORE][row]:.3f}"


def test_steps_that_add_and_re_rankers_are_told(a_world: World) -> None:
    world = a_world([a_follow(20, 10), a_post(1, 10), a_post(2, 30), a_post(3, 31)])

    def changed(stages: Any) -> Any:
        rankers = (*stages.rankers[:6], Extra(), *stages.rankers[7:])
        return replace(stages, rankers=rankers, re_rankers=(Reversing(),), selector=TopSelector(PAGE_SCORE))

    result, why = _explained(world, _pipeline(world, changed, is_strict=True), limit=1)
    assert result.slate[POST_ID].tolist() == [world.post_id(1)]
    for post in (1, 2, 3):
        found = why(post)
        assert [(step.name, step.kind) for step in found.steps] == [
            ("recency", "multiply"),
            ("extra", "add"),
            *STEPS[2:],
        ]
        assert found.steps[1].amount == (0.0 if post == 1 else 0.25)
        assert found.steps[-1].score_after == pytest.approx(found.score, rel=1e-6)
        assert found.page_score == pytest.approx(-found.score, rel=1e-6)
        assert found.reranking == f"reversing: chosen with {found.page_score:.3f}"
    ranks = [why(post).rank for post in (1, 2, 3)]
    assert sorted(ranks) == [1, 2, 3]
    best = next(post for post in (1, 2, 3) if why(post).rank == 1)
    assert why(best).verdict == "ranked_below"  # the re-ranker turned the order round
    assert "the page went down to 1." in why(best).summary


# ------------------------------------------------------------------------------------- the whole request


def test_a_request_tells_its_funnel_params_and_ids(a_world: World) -> None:
    events = [a_follow(20, 10), a_post(1, 10), a_post(2, 30), a_post(3, 20), *many(4)]
    asked = Asked(a_world(events, params={"recency.rate_per_h": 0.5}), limit=4)
    trace = asked.request()
    assert (trace.request_id, trace.viewer_id, trace.pipeline, trace.limit) == ("r1", "20", "home", 4)
    assert trace.generated_at == asked.page.generated_at
    assert (trace.n_candidates, trace.n_ranked, trace.n_slate) == (7, 6, 4)
    assert trace.posts == tuple(post.post_id for post in asked.page.posts)
    assert trace.params["recency.rate_per_h"] == 0.5
    assert trace.params["network.out_of_network_factor"] == 0.75
    assert trace.param_levels == {"recency.rate_per_h": "config"}
    assert not trace.degraded
    assert trace.stages is None
    sources = {source.name: source for source in trace.sources}
    assert (sources["in_network"].n_found, sources["in_network"].n_unique) == (1, 0)
    assert (sources["recent"].n_found, sources["new_authors"].n_found) == (7, 6)
    assert (sources["recent"].n_unique, sources["new_authors"].n_unique) == (1, 0)
    filters = {found.name: found for found in trace.filters}
    assert (filters["own_posts"].n_in, filters["own_posts"].n_dropped) == (7, 1)
    assert (filters["seen"].n_in, filters["seen"].fate) == (6, "ok")
    assert sum(found.n_dropped for found in trace.filters) == 1
    assert [c.component for c in trace.components] == [c.component for c in asked.result.report.components]


def test_ids_and_scores_after_every_stage(a_world: World) -> None:
    asked = Asked(a_world([a_post(3, 20), *many(4)]), limit=2)
    stages = asked.request(with_ids=True).stages
    assert stages is not None
    retrieved, ranked, page = stages
    assert (retrieved.stage, ranked.stage, page.stage) == ("retrieved", "ranked", "page")
    assert {post.post_id for post in retrieved.posts} == {"3", "1000", "1001", "1002", "1003"}
    assert all(post.score is None for post in retrieved.posts)
    assert [post.post_id for post in ranked.posts] == ["1000", "1001", "1002", "1003"]
    assert [(post.post_id, post.score) for post in page.posts] == [
        (post.post_id, pytest.approx(post.score)) for post in asked.page.posts
    ]


def test_a_page_that_went_wrong_says_so(a_world: World) -> None:
    world = a_world(many(2), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    (popular,) = (source for source in world.service.pipeline.stages.sources if source.name == "popular")
    popular._counters = None  # type: ignore[attr-defined]
    trace = Asked(world).request()
    assert trace.degraded
    assert [(o.component, o.fate) for o in trace.outcomes] == [("popular", "failed")]
    assert {s.name: s.fate for s in trace.sources}["popular"] == "failed"


# ------------------------------------------------------------------------------------------ dry runs


def test_a_dry_run_claims_logs_and_keeps_nothing(a_world: World) -> None:
    kept: list[str] = []

    class Store:
        def write(self, request_id: str, record: bytes) -> None:
            kept.append(request_id)

    world = a_world(many(3), claims=MemoryClaims())
    world.service.traces._store = Store()  # type: ignore[assignment]
    dry = world.page(request_id="dry", is_dry_run=True)
    assert len(dry.posts) == 3
    assert (kept, world.served.events) == ([], [])
    sent = world.page(request_id="sent")
    assert [post.post_id for post in sent.posts] == [post.post_id for post in dry.posts]
    assert kept == ["sent"]
    assert len(world.served.events) == 1
    assert world.page(request_id="dry again", is_dry_run=True).posts == ()  # what would come next


def test_a_page_can_leave_out_why(a_world: World) -> None:
    world = a_world(many(2))
    page = world.page(request_id="a", why=False)
    assert [post.why for post in page.posts] == [None, None]
    assert [post.score for post in page.posts] == [post.score for post in a_world(many(2)).page(request_id="a").posts]


def test_a_trace_that_cannot_be_kept_costs_no_page(a_world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def write(self, request_id: str, record: bytes) -> None:
            raise OSError("the disk has left")

    world = a_world(many(2), config=HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000))
    world.service.traces._store = Broken()  # type: ignore[assignment]
    assert len(world.page().posts) == 2
    assert "request r1 leaves no trace" in caplog.text
    strict = a_world(many(2))
    strict.service.traces._store = Broken()  # type: ignore[assignment]
    with pytest.raises(OSError, match="the disk has left"):
        strict.page()


def test_predictions_of_a_request_are_not_changed_by_keeping_them(a_world: World) -> None:
    world = a_world(many(3))
    result = asyncio.run(world.service.execute(FeedRequest(viewer_id="20", request_id="r1")))
    before = result.ranked[ACTION_PROBS].copy()
    world.service.traces.of(result)
    np.testing.assert_array_equal(result.ranked[ACTION_PROBS], before)
