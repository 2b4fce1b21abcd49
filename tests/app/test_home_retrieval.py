"""A promotion of towers: those before answer until the new index is whole; what nobody needs is freed."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.home_retrieval import AnsweringModels, HomeRetrieval
from millrace.app.model_publishing import promote, publish
from millrace.app.settings import Settings, load_settings
from millrace.base.actions import ActionSpace
from millrace.base.clock import ManualClock
from millrace.base.ids import IdKind
from millrace.events.envelope import AnyEvent
from millrace.events.feed_events import Served
from millrace.features.encoding.encoders import Encoders
from millrace.flywheel.sample_set import SET_VERSION, SampleMeta
from millrace.inference.post_index import MAX_ENCODED, PostIndex
from millrace.inference.retrieval_model import RetrievalModel
from millrace.inference.vector_index import Eligibility
from millrace.mixer.feed import FeedRequest, FeedResponse
from millrace.mixer.feed_state import FeedState
from millrace.mixer.home_models import MODELS, HomeModels, LeasedModels
from millrace.mixer.trace import Trace, TracePacker
from millrace.pipeline.query import Query
from millrace.stores.claims import MemoryClaims
from millrace.stores.config import StoresConfig
from millrace.stores.read_gate import ReadGate
from millrace.testing.builders import NOW_MS, a_batch_of, a_post_created, a_post_deleted
from millrace.testing.pipeline_builders import a_query
from millrace.testing.server_process import until
from millrace.testing.small_towers import export_small_towers

PATIENCE_S = 60.0

Towers = Mapping[str, RetrievalModel]


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Towers:
    found = {}
    for seed, version in enumerate(("v1", "v2", "v3"), 1):
        folder = tmp_path_factory.mktemp(version)
        found[version] = RetrievalModel.open(folder, export_small_towers(folder, seed).schema, version)
    return found


class Lanes:
    """Models of lanes, as the test says."""

    def __init__(self) -> None:
        self.now: dict[str, HomeModels] = {}

    @contextmanager
    def lease(self, lane: str) -> Iterator[HomeModels]:
        yield self.now.get(lane) or self.now["default"]

    def held(self) -> Sequence[HomeModels]:
        return list(self.now.values())

    def by_lane(self) -> Mapping[str, HomeModels]:
        return self.now


class Process:
    """Stores, lanes, and what finds posts in them."""

    def __init__(self, towers: Towers) -> None:
        self._towers = towers
        self.state = FeedState(StoresConfig())
        self.lanes = Lanes()
        self.retrieval = HomeRetrieval()
        self.retrieval.attach(self.state, self.lanes)
        self.source = AnsweringModels(self.lanes, self.retrieval)
        self.nobody = Encoders.of(self.state, self.state.texts, self.state.profile_texts).viewers.encode(1)

    def promote(self, version: str, lane: str = "default") -> None:
        versions = {"ranker": f"r-{version}", "retrieval": version}
        self.lanes.now = {**self.lanes.now, lane: HomeModels(retrieval=self._towers[version], versions=versions)}

    def hear(self, *events: AnyEvent) -> None:
        batch = a_batch_of(list(events))
        for fold in self.state.folds():
            fold.apply(batch)
        self.retrieval.hear(batch)

    def fill(self) -> None:
        while not self.retrieval.advance():
            pass

    def answers(self, lane: str = "default") -> str:
        with self.source.lease(lane) as models:
            assert models.versions["ranker"].startswith("r-")
            return models.versions.get("retrieval", "")

    def index(self, models: HomeModels) -> PostIndex | None:
        return self.retrieval.retriever_of(query_with(models))

    def found(self, models: HomeModels) -> set[int]:
        index = self.index(models)
        assert index is not None
        assert index.model.version == models.versions["retrieval"]
        ids, _ = index.search(self.nobody, 100, Eligibility())
        return set(ids.tolist())

    def posts(self, *names: int) -> set[int]:
        return {self.state.hasher.one(IdKind.POST, str(name)) for name in names}


def query_with(models: HomeModels) -> Query:
    return a_query().with_fields({MODELS: models})


@pytest.fixture
def process(towers: Towers) -> Process:
    return Process(towers)


def test_before_the_first_index_is_whole_pages_are_made_without_towers_and_say_so(process: Process) -> None:
    process.hear(a_post_created(1, 30))
    process.promote("v1")
    with process.source.lease("default") as models:
        assert models.retrieval is None
        assert models.versions == {"ranker": "r-v1"}
        assert process.index(models) is None
    process.fill()
    assert process.answers() == "v1"


def test_the_towers_before_answer_until_the_new_index_is_whole_and_a_page_keeps_its_own(process: Process) -> None:
    process.hear(*(a_post_created(n, 30 + n) for n in range(2 * MAX_ENCODED + 50)))
    process.promote("v1")
    process.fill()
    process.promote("v2")
    assert not process.retrieval.advance()  # one step of three
    with process.source.lease("default") as models:
        assert models.versions == {"ranker": "r-v2", "retrieval": "v1"}
        process.hear(*(a_post_deleted(n) for n in range(3, 2 * MAX_ENCODED + 50)))
        process.hear(a_post_created(9_001, 30))
        assert process.answers() == "v2"  # whole: what is left is few
        assert models.versions == {"ranker": "r-v2", "retrieval": "v1"}
        assert process.found(models) == process.posts(0, 1, 2, 9_001)  # as new as the stores all the same
    with process.source.lease("default") as models:
        assert models.versions == {"ranker": "r-v2", "retrieval": "v2"}
        assert process.found(models) == process.posts(0, 1, 2, 9_001)


def test_a_page_of_other_towers_never_sees_an_index_of_these(process: Process) -> None:
    """The same viewer has another vector in each: cosines are those of one version, whichever answers."""
    process.hear(a_post_created(1, 30))
    process.promote("v1")
    process.fill()
    (post,) = process.posts(1)
    with process.source.lease("default") as models:
        first = process.index(models)
        assert first is not None
        expected = first.cosine(process.nobody, post)
    process.promote("v2")
    with process.source.lease("default") as models:
        assert process.index(models) is first
        assert first.search(process.nobody, 1)[1][0] == pytest.approx(expected, abs=1e-6)
        process.fill()
        assert process.index(models) is first
    with process.source.lease("default") as models:
        second = process.index(models)
        assert second is not None
        assert second.cosine(process.nobody, post) != pytest.approx(expected, abs=1e-3)


def test_an_index_is_freed_at_once_when_the_last_page_that_holds_it_ends(process: Process) -> None:
    process.hear(a_post_created(1, 30))
    process.promote("v1")
    process.fill()
    with process.source.lease("default") as models, process.source.lease("default"):
        index = process.index(models)
        assert index is not None
        gone = weakref.ref(index)
        process.promote("v2")
        process.fill()
        assert set(process.retrieval.versions) == {"v1", "v2"}
    del index
    assert process.retrieval.versions == ("v2",)
    gc.collect()
    assert gone() is None


def test_what_nobody_holds_is_freed_with_the_step_that_makes_its_successor_whole(process: Process) -> None:
    process.hear(*(a_post_created(n, 30 + n) for n in range(1, MAX_ENCODED + 50)))
    process.promote("v1")
    process.fill()
    process.promote("v2")
    process.retrieval.advance()
    assert set(process.retrieval.versions) == {"v1", "v2"}
    process.promote("v3")  # nobody wants v2 any more, which never answered
    process.retrieval.advance()
    assert set(process.retrieval.versions) == {"v1", "v3"}
    assert process.retrieval.advance()
    assert process.retrieval.versions == ("v3",)


def test_an_index_is_filled_between_requests(process: Process) -> None:
    """Each begins when the one before has ended: a step beside one would make its page wait."""
    process.hear(*(a_post_created(n, 30 + n) for n in range(3 * MAX_ENCODED + 50)))
    process.promote("v1")
    gate, under_way = ReadGate(), []
    advance = process.retrieval.advance

    def noting() -> bool:
        under_way.append(gate.n_readers)
        return advance()

    process.retrieval.advance = noting  # type: ignore[method-assign]

    async def ask() -> None:
        filling = asyncio.create_task(process.retrieval.keep_filled(gate, max_waits=1_000_000))
        while len(under_way) < 4:
            async with gate.read():
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.01)
        filling.cancel()

    asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))
    assert under_way[1:] == [0] * (len(under_way) - 1)


def test_an_index_is_filled_although_requests_never_end(process: Process) -> None:
    process.hear(*(a_post_created(n, 30 + n) for n in range(2 * MAX_ENCODED + 50)))
    process.promote("v1")
    gate = ReadGate()

    async def ask() -> None:
        filling = asyncio.create_task(process.retrieval.keep_filled(gate))
        async with gate.read():
            while process.answers() != "v1":  # noqa: ASYNC110 - the index has no event to wait for
                await asyncio.sleep(0)
        filling.cancel()

    asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))


def test_a_dropped_index_is_fed_no_more(process: Process) -> None:
    process.hear(a_post_created(1, 30))
    process.promote("v1")
    process.fill()
    with process.source.lease("default") as models:
        index = process.index(models)
        assert index is not None
        process.promote("v2")
        process.fill()
        process.hear(a_post_created(2, 30))
        assert index.n == 2  # a page under way is served as before
    process.hear(a_post_created(3, 30))
    assert index.n == 2


def test_each_lane_has_its_own_towers_and_a_new_one_those_of_everybody_at_first(process: Process) -> None:
    process.hear(a_post_created(1, 30))
    process.promote("v1")
    process.fill()
    process.promote("v2", "arm-1")
    assert (process.answers(), process.answers("arm-1"), process.answers("unknown")) == ("v1", "v1", "v1")
    process.fill()
    assert (process.answers(), process.answers("arm-1")) == ("v1", "v2")
    process.promote("v3", "arm-1")
    assert (process.answers(), process.answers("arm-1")) == ("v1", "v2")
    process.lanes.now = {"default": process.lanes.now["default"]}  # the lane is dropped
    process.fill()
    assert process.retrieval.versions == ("v1",)


def test_taking_the_towers_out_or_rolling_back_answers_at_once(process: Process) -> None:
    process.hear(a_post_created(1, 30))
    process.promote("v1")
    process.fill()
    process.promote("v2")
    process.promote("v1")
    assert process.answers() == "v1"
    process.lanes.now = {"default": HomeModels(versions={"ranker": "r-v1"})}
    assert process.answers() == ""
    process.fill()
    assert process.retrieval.versions == ()


class Kept:
    """Takes `Served` events."""

    def __init__(self) -> None:
        self.served: list[Served] = []

    def log(self, event: AnyEvent) -> None:
        if isinstance(event.payload, Served):
            self.served.append(event.payload)


def sent(events: Iterable[AnyEvent], collector: object) -> None:
    receipt = collector.submit(list(events))  # type: ignore[attr-defined]
    assert receipt.n_refused == 0


def published_towers(settings: Settings, folder: Path, seed: int) -> str:
    schema = export_small_towers(folder, seed).schema
    meta = SampleMeta(version=SET_VERSION, schema=schema, actions=ActionSpace().names, dense=(), from_ms=0, until_ms=1)
    return publish(settings, "retrieval", folder, meta, metrics={}, training={"seed": seed}).version


def test_pages_stamp_the_towers_that_answered_while_the_rest_of_a_promotion_serves(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path / "home")
    settings = load_settings(
        settings.home,
        None,
        [("home.deadline_ms", "30000"), ("home.claim_timeout_ms", "30000"), ("home.is_strict", "true")],
    )
    versions = [published_towers(settings, tmp_path / f"towers{seed}", seed) for seed in (1, 2)]
    clock, kept, retrieval = ManualClock(NOW_MS), Kept(), HomeRetrieval()
    log = wiring.build_log(settings, clock)
    sent(
        (a_post_created(n, 30 + n, at_ms=NOW_MS - n) for n in range(20)),
        wiring.build_collector(settings, log, wiring.build_codec(settings), clock),
    )
    replica = wiring.build_replica(settings, log, clock=clock, listeners=(retrieval,))
    replica.catch_up()
    live = wiring.build_live_models(settings)
    service = wiring.build_feed_service(
        settings, replica, kept, claims=MemoryClaims(), clock=clock, models=LeasedModels(live), retrieval=retrieval
    )

    async def page(number: int) -> tuple[dict[str, str], dict[str, str], dict[str, str], int]:
        request = FeedRequest(viewer_id=f"v{number}", request_id=f"r{number}", limit=5, debug=True)
        response, result = await service.home_with_result(request)
        await service.drain()
        trace = Trace(TracePacker(service.pipeline, ActionSpace().names).pack(result))
        assert response.debug_info is not None
        parts = (await service.explainer.request(trace)).models
        said = {kind: p.version for p in parts for kind in ["retrieval"] if p.role == "towers" and p.by == "model"}
        return response.debug_info.models, kept.served[-1].models, said, response.debug_info.retrieved.get("vector", 0)

    promote(settings, {"retrieval": versions[0]}, "")
    live.poll()
    with asyncio.Runner() as runner:
        assert runner.run(page(0)) == ({}, {}, {}, 0)
        assert retrieval.advance()
        first = {"retrieval": versions[0]}
        assert runner.run(page(1)) == (first, first, first, 20)
        promote(settings, {"retrieval": versions[1]}, "")
        live.poll()
        assert live.versions() == {"retrieval": versions[1]}  # promoted, loaded, warm: only its index is not
        assert runner.run(page(2)) == (first, first, first, 20)
        assert retrieval.advance()
        second = {"retrieval": versions[1]}
        assert runner.run(page(3)) == (second, second, second, 20)
        assert retrieval.versions == (versions[1],)
    live.close()
    replica.close()
    log.close()


def test_a_worker_finds_posts_through_a_promotion_without_a_page_that_has_no_towers(tmp_path: Path) -> None:
    settings, _ = make_home(tmp_path / "home")
    settings = load_settings(settings.home, None, [("home.deadline_ms", "30000"), ("home.claim_timeout_ms", "30000")])
    first, second = (published_towers(settings, tmp_path / f"towers{seed}", seed) for seed in (1, 2))
    promote(settings, {"retrieval": first}, "")
    log, clock = wiring.build_log(settings), wiring.build_clock()
    now_ms = clock.now_ms()
    posts = (a_post_created(n, 30 + n, at_ms=now_ms - n) for n in range(2 * MAX_ENCODED))
    sent(posts, wiring.build_collector(settings, log, wiring.build_codec(settings)))
    retrieval = HomeRetrieval()
    replica = wiring.build_replica(settings, log, listeners=(retrieval,))
    app = wiring.build_http_app(settings, replica, retrieval=retrieval)
    pages: list[tuple[str, bool]] = []
    following: list[asyncio.Task[None]] = []

    async def follow() -> None:
        replica.restore()
        following.append(asyncio.create_task(replica.follow()))

    async def stop() -> None:
        following[0].cancel()

    app.on_startup.append(follow)
    app.on_shutdown.append(stop)

    def answers(client: TestClient[Litestar]) -> str:
        found = client.get("/api/v1/timeline/home", params={"viewer": f"v{len(pages)}", "limit": 5})
        debug = msgspec.json.decode(found.content, type=FeedResponse).debug_info
        assert debug is not None
        pages.append((debug.models.get("retrieval", ""), debug.retrieved.get("vector", 0) > 0))
        return pages[-1][0]

    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").status_code == 200, PATIENCE_S)
        until(lambda: answers(client) == first, PATIENCE_S)
        promote(settings, {"retrieval": second}, "")
        pages.clear()
        until(lambda: answers(client) == second, PATIENCE_S)
    assert set(pages) <= {(first, True), (second, True)}
    replica.close()
    log.close()
