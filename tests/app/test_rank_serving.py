"""What ``millrace rank-server`` serves: a folder, or what its registry promotes; and the feed that asks it."""

from __future__ import annotations

import itertools
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import generate_latest

pytest.importorskip("grpc", reason="grpcio is not installed: pip install '.[grpc]'")
pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")

from millrace.app import cli
from millrace.app.home_model_loading import _RANK_SERVERS_S, HomeModelLoader
from millrace.app.metrics import Metrics
from millrace.app.rank_metrics import RankMetrics
from millrace.app.rank_server_report import RankServerReport, asked_servers
from millrace.app.rank_serving import RankServing, follow_registry, hold_folder
from millrace.base.actions import Action, ActionSpace
from millrace.base.errors import NotReadyError
from millrace.features.columns import ACTION_PROBS, POST_ID
from millrace.features.encoding.candidates import dense_fields, schema_hash
from millrace.inference.grpc_runner import GrpcRunner
from millrace.inference.live_models import EVERY_S, FIRST_RETRY_S, LiveModels
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.precision import VERDICT_FILES, Verdict
from millrace.inference.rank_servers import MAX_FAILURES
from millrace.inference.rank_wire import RankServerError, ranker_identity
from millrace.inference.ranker_model import RankerModel
from millrace.inference.served_rankers import ServedRankers
from millrace.inference.torch_runner import serving_device
from millrace.mixer.config import HomeConfig
from millrace.mixer.home_models import HomeModels
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.testing.builders import a_follow
from millrace.testing.pipeline_world import FeedWorld, posts_by
from millrace.testing.rank_runner_contract import some_candidates, some_viewers
from millrace.testing.rank_server_thread import RankServerThread
from millrace.testing.server_process import until
from millrace.testing.small_rankers import export_small_ranker
from millrace.testing.told_clock import ToldClock

SCHEMA = schema_hash(ActionSpace())
PATIENCE_MS = 30_000.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return three rankers."""
    made = [tmp_path_factory.mktemp("rankers") / name for name in ("a", "b", "c")]
    for seed, folder in enumerate(made):
        export_small_ranker(folder, seed)
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def publish(registry: Registry) -> Callable[[Path], str]:
    def publish(folder: Path) -> str:
        said = Description(kind="ranker", feature_schema_hash=SCHEMA, from_ms=0, until_ms=1)
        return registry.publish(folder, said, now_ms=0).version

    return publish


@pytest.fixture
def metrics() -> RankMetrics:
    return RankMetrics()


@pytest.fixture
def serving(tmp_path: Path) -> RankServing:
    return RankServing(folder=None, models_dir=tmp_path / "models", address="127.0.0.1:0")


@pytest.fixture
def rankers() -> Iterator[ServedRankers]:
    rankers = ServedRankers()
    yield rankers
    rankers.close()


@pytest.fixture
def live(
    rankers: ServedRankers, registry: Registry, serving: RankServing, metrics: RankMetrics
) -> Iterator[LiveModels[str]]:
    live = follow_registry(rankers, registry, serving, metrics)
    yield live
    live.close()


def names(rankers: ServedRankers) -> set[str]:
    return {ranker.description.name for ranker in rankers.all()}


def test_what_is_promoted_serves_and_the_one_before_stays_for_clients_that_are_later(
    folders: list[Path],
    registry: Registry,
    publish: Callable[[Path], str],
    rankers: ServedRankers,
    live: LiveModels[str],
) -> None:
    a, b, c = (publish(folder) for folder in folders)
    live.poll()
    assert rankers.default == ""
    for version in (a, b, c):
        registry.promote({"ranker": version}, now_ms=0)
        live.poll()
        assert rankers.get("").description.name == version
    assert names(rankers) == {b, c}
    assert rankers.get(ranker_identity(folders[1])).description.name == b
    with pytest.raises(NotReadyError, match="is not among those"):
        rankers.get(ranker_identity(folders[0]))
    registry.rollback(now_ms=0)
    live.poll()
    assert rankers.get("").description.name == b
    assert names(rankers) == {b, c}


def test_every_lanes_ranker_is_held_and_everybodys_is_the_default(
    folders: list[Path],
    registry: Registry,
    publish: Callable[[Path], str],
    rankers: ServedRankers,
    live: LiveModels[str],
) -> None:
    a, b = publish(folders[0]), publish(folders[1])
    registry.promote({"ranker": a}, now_ms=0)
    registry.promote({"ranker": b}, "sandbox", now_ms=0)
    live.poll()
    assert names(rankers) == {a, b}
    assert rankers.get("").description.name == a


def test_a_ranker_that_is_damaged_is_refused_and_the_old_one_goes_on(
    folders: list[Path],
    registry: Registry,
    publish: Callable[[Path], str],
    rankers: ServedRankers,
    live: LiveModels[str],
    tmp_path: Path,
) -> None:
    good = publish(folders[0])
    (tmp_path / "bad").mkdir()
    for path in folders[1].iterdir():
        (tmp_path / "bad" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "bad" / "score.onnx").write_bytes(b"no graph")
    bad = publish(tmp_path / "bad")
    registry.promote({"ranker": good}, now_ms=0)
    live.poll()
    registry.promote({"ranker": bad}, now_ms=0)
    live.poll()
    assert rankers.get("").description.name == good
    assert "model file" in live.status()["default"].problem


def test_a_client_of_a_registrys_folder_is_understood(
    folders: list[Path],
    registry: Registry,
    publish: Callable[[Path], str],
    live: LiveModels[str],
    rankers: ServedRankers,
) -> None:
    """The server has its registry, the client a copy of the training's folder: one model."""
    registry.promote({"ranker": publish(folders[0])}, now_ms=0)
    live.poll()
    with RankServerThread(rankers=rankers) as server:
        runner = GrpcRunner.of_folder(folders[0], [server.address], timeout_ms=PATIENCE_MS)
        assert runner.describe().identity == runner.description.identity
        runner.close()


def test_a_ranker_that_could_not_be_read_serves_once_it_can_without_another_promotion(
    folders: list[Path],
    registry: Registry,
    publish: Callable[[Path], str],
    rankers: ServedRankers,
    serving: RankServing,
    metrics: RankMetrics,
) -> None:
    clock = ToldClock()
    live = follow_registry(rankers, registry, serving, metrics, clock)
    version = publish(folders[0])
    registry.promote({"ranker": version}, now_ms=0)
    graph = registry.folder("ranker", version) / "score.onnx"
    whole = graph.read_bytes()
    graph.unlink()  # a disk that is not mounted yet
    live.poll()
    assert rankers.default == ""
    clock.s += FIRST_RETRY_S
    live.poll()
    graph.write_bytes(whole)
    live.poll()
    assert rankers.default == ""
    clock.s += 2 * FIRST_RETRY_S
    live.poll()
    assert rankers.get("").description.name == version
    text = generate_latest(metrics.registry).decode()
    for what in ("refused", "retried", "swapped"):
        assert f'millrace_rank_models_total{{lane="default",what="{what}"}} 1.0' in text
    live.close()


def test_workers_tell_and_the_doctor_asks_how_rank_servers_do(
    folders: list[Path], serving: RankServing, metrics: RankMetrics, rankers: ServedRankers
) -> None:
    hold_folder(rankers, folders[0], serving, metrics)
    told = Metrics()
    report = RankServerReport(told)
    report.tell([HomeModels()])
    assert b"millrace_rank_server_failures{" not in told.render()
    with RankServerThread(rankers=rankers) as server:
        runner = GrpcRunner.of_folder(folders[0], [server.address], timeout_ms=PATIENCE_MS, clock=ToldClock())
        model = RankerModel.open(folders[0], SCHEMA, runner=runner)
        viewers, candidates = some_viewers(model.config, 1, 8), some_candidates(model.config, 1)
        runner.predict(viewers, candidates)
        report.tell([HomeModels(ranker=model), HomeModels()])
        text = told.render().decode()
        assert f'millrace_rank_server_failures{{address="{server.address}"}} 0.0' in text
        assert f'millrace_rank_server_resting{{address="{server.address}"}} 0.0' in text
        assert list(asked_servers(folders[0], [server.address])) == [(server.address, "")]
        ((_, problem),) = asked_servers(folders[1], [server.address])
        assert "is not among those" in problem
    for _ in range(MAX_FAILURES):
        with pytest.raises(RankServerError):
            runner.predict(viewers, candidates)
    report.tell([HomeModels(ranker=model), HomeModels()])
    text = told.render().decode()
    assert f'millrace_rank_server_failures{{address="{server.address}"}} 3.0' in text
    assert f'millrace_rank_server_resting{{address="{server.address}"}} 1.0' in text
    ((_, problem),) = asked_servers(folders[0], [server.address])
    assert "cannot be reached" in problem
    report.tell([])  # it serves no more
    assert f'millrace_rank_server_failures{{address="{server.address}"}} 0.0' in told.render().decode()
    model.close()


def test_a_server_runs_what_it_is_told_to_in_the_precision_that_was_let_through(
    folders: list[Path], serving: RankServing, metrics: RankMetrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In torch, in bf16: predictions differ by little from those of float32, and by more than its rounding."""
    accepted = Verdict(is_accepted=True, reasons=(), n_rows=1, largest_change=0.0, heads={}, device=serving_device())
    judged = tmp_path / "judged"
    shutil.copytree(folders[0], judged)
    (judged / VERDICT_FILES["bf16"]).write_bytes(msgspec.json.encode(accepted))
    told = msgspec.structs.replace(serving, runner="torch", precision="bf16")
    exact = OnnxRunner.open(folders[0])
    viewers, candidates = some_viewers(exact.config, 1, 8), some_candidates(exact.config, 1, 40)
    expected = exact.score(candidates, exact.encode(viewers))
    lost = []
    for folder in (judged, folders[0]):
        rankers = ServedRankers()
        hold_folder(rankers, folder, told, metrics)
        with RankServerThread(rankers=rankers) as server:
            runner = GrpcRunner.of_folder(folder, [server.address], timeout_ms=PATIENCE_MS)
            lost.append(np.abs(runner.predict(viewers, candidates) - expected).max())
            runner.close()
        rankers.close()
    assert 1e-4 < lost[0] < 0.02
    assert lost[1] < 1e-5
    assert "never judged in bf16" in caplog.text


class TestFeed:
    """A feed whose ranker is elsewhere."""

    @pytest.fixture
    def server(
        self, folders: list[Path], rankers: ServedRankers, serving: RankServing, metrics: RankMetrics
    ) -> Iterator[RankServerThread]:
        hold_folder(rankers, folders[0], serving, metrics)
        with RankServerThread(rankers=rankers, observer=metrics) as server:
            yield server

    @pytest.fixture
    def make_world(self, tmp_path: Path) -> Iterator[Callable[[RankerModel], FeedWorld]]:
        made: list[FeedWorld] = []

        def make(model: RankerModel) -> FeedWorld:
            config = HomeConfig(deadline_ms=30_000, claim_timeout_ms=30_000)
            folder = tmp_path / f"world{len(made)}"
            folder.mkdir()
            events = [a_follow(20, 10), a_follow(20, 11), *posts_by(10, 1, 2), *posts_by(11, 3, 4)]
            made.append(FeedWorld(folder, events, model=model, config=config))
            return made[-1]

        yield make
        for world in made:
            world.close()

    def test_pages_are_those_of_a_ranker_in_the_process(
        self, folders: list[Path], server: RankServerThread, make_world: Callable[[RankerModel], FeedWorld]
    ) -> None:
        runner = GrpcRunner.of_folder(folders[0], [server.address], timeout_ms=PATIENCE_MS)
        there, here = RankerModel.open(folders[0], SCHEMA, runner=runner), RankerModel.open(folders[0], SCHEMA)
        (page, result), (other_page, other) = make_world(there).page_with_result(), make_world(here).page_with_result()
        assert result.report.outcomes == ()
        assert [post.post_id for post in page.posts] == [post.post_id for post in other_page.posts]
        np.testing.assert_array_equal(result.ranked[POST_ID], other.ranked[POST_ID])
        np.testing.assert_allclose(result.ranked[ACTION_PROBS], other.ranked[ACTION_PROBS], rtol=1e-6, atol=1e-6)
        there.close()

    def test_without_the_server_counters_predict_and_the_page_says_so(
        self, folders: list[Path], server: RankServerThread, make_world: Callable[[RankerModel], FeedWorld]
    ) -> None:
        """Gone before the first page, or between two."""
        runner = GrpcRunner.of_folder(folders[0], [server.address], timeout_ms=PATIENCE_MS)
        world = make_world(RankerModel.open(folders[0], SCHEMA, runner=runner))
        assert world.page_with_result(22, request_id="r0")[1].report.outcomes == ()
        server.stop()
        for viewer in (20, 21):
            page, result = world.page_with_result(viewer, request_id=f"r{viewer}")
            assert page.degraded
            assert [(outcome.component, outcome.stage) for outcome in result.report.outcomes] == [("model", "ranker")]
            assert "cannot be reached" in result.report.outcomes[0].detail
            assert (result.ranked[ACTION_PROBS][:, Action.LIKE] > 0).all()
        runner.close()

    def test_a_feed_that_is_there_before_its_servers_opens_soon_and_is_ranked_when_they_have_come(
        self,
        folders: list[Path],
        rankers: ServedRankers,
        serving: RankServing,
        metrics: RankMetrics,
        make_world: Callable[[RankerModel], FeedWorld],
    ) -> None:
        assert _RANK_SERVERS_S + EVERY_S < 1.0  # what was promoted with it has 1.2 s, and has to be loaded too
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        loader = HomeModelLoader(SCHEMA, len(dense_fields(ActionSpace())), rank_servers=(f"127.0.0.1:{port}",))
        models = loader.open({"ranker": folders[0]}, {})
        assert isinstance(models.ranker, RankerModel)
        world, n = make_world(models.ranker), itertools.count()

        def problems() -> list[str]:
            return [each.detail for each in world.page_with_result(request_id=f"r{next(n)}")[1].report.outcomes]

        assert ["cannot be reached" in problem for problem in problems()] == [True]
        hold_folder(rankers, folders[0], serving, metrics)
        with RankServerThread(rankers=rankers, port=port):
            until(lambda: problems() == [], PATIENCE_MS / 1_000)
        models.close()

    def test_metrics_tell_of_calls_batches_and_kept_viewers(
        self,
        folders: list[Path],
        server: RankServerThread,
        make_world: Callable[[RankerModel], FeedWorld],
        metrics: RankMetrics,
        rankers: ServedRankers,
    ) -> None:
        metrics.watch(rankers.all)
        runner = GrpcRunner.of_folder(folders[0], [server.address], timeout_ms=PATIENCE_MS)
        world = make_world(RankerModel.open(folders[0], SCHEMA, runner=runner))
        for request_id in ("r1", "r2"):
            world.page_with_result(request_id=request_id, limit=2)
        text = generate_latest(metrics.registry).decode()
        who = f'identity="{ranker_identity(folders[0])}",name="{folders[0]}"'
        for line in (
            'millrace_rank_calls_total{call="Score",code="OK"} 2.0',
            "millrace_rank_batch_size_count 2.0",
            "millrace_rank_queue_seconds_count 2.0",
            "millrace_rank_dropped_total 0.0",
            "millrace_rank_refused_total 0.0",
            f"millrace_rank_kept_viewers{{{who}}} 1.0",
            f'millrace_rank_kept_asked_total{{{who},result="hit"}} 1.0',
        ):
            assert line in text
        runner.close()


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--address", "0.0.0.0:8101"], "reachable from other machines"),
        (["--address", "8101"], "not HOST:PORT"),
        (["--metrics", "192.168.0.7:9100"], "reachable from other machines"),
        (["--model", "nowhere"], "name an exported ranker's folder"),
        (["--precision", "bf16"], "choose the runner torch"),
        (["--runner", "torch", "--precision", "int8"], "choose the runner onnx"),
        (["--runner", "tensorrt"], "choose one of onnx, torch, numpy"),
        (["--precision", "fp8"], "choose one of fp32, int8, bf16"),
    ],
)
def test_what_the_command_cannot_do_it_says(
    argv: list[str],
    problem: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "240")
    # What a command does to its process's logging would stay for the tests after this one.
    monkeypatch.setattr("millrace.app.commands.serve.start_logging", lambda **_: None)
    more = [] if "--model" in argv else ["--model", str(tmp_path)]
    assert cli.run(["rank-server", *more, *argv]) == cli.USAGE_ERROR
    assert problem in capsys.readouterr().err
