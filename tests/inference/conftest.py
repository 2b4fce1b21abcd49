"""A small ranker, exported once, and a server of it; a registry whose models are followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from millrace.inference.batcher import BatcherConfig
from millrace.testing.gated_runner import PATIENCE_S, GatedRunner
from millrace.testing.live_house import LiveHouse
from millrace.testing.rank_runner_contract import small_config

if TYPE_CHECKING:  # an extra: grpcio
    from millrace.inference.grpc_runner import GrpcRunner
    from millrace.testing.rank_server_thread import RankServerThread


@pytest.fixture(scope="session")
def ranker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
    pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")
    from millrace.models.export import export_ranker
    from millrace.models.ranker import Ranker

    torch.manual_seed(5)
    ranker = Ranker(small_config())
    with torch.no_grad():
        for name, value in ranker.named_parameters():
            if "norm" in name:
                value.mul_(1.0 + 0.5 * torch.rand_like(value))
    folder = tmp_path_factory.mktemp("ranker")
    export_ranker(ranker, folder)
    return folder


@pytest.fixture
def house(tmp_path: Path) -> Iterator[LiveHouse]:
    house = LiveHouse(tmp_path)
    yield house
    house.live.close()
    assert all(bundle.n_closed == 1 for bundle in house.loaded)  # each, and once


@pytest.fixture(scope="session")
def identity(ranker_folder: Path) -> str:
    from millrace.inference.rank_wire import ranker_identity

    return ranker_identity(ranker_folder)


@pytest.fixture
def gated(ranker_folder: Path) -> GatedRunner:
    from millrace.inference.onnx_runner import OnnxRunner

    return GatedRunner(OnnxRunner.open(ranker_folder))


@pytest.fixture
def config() -> BatcherConfig:
    return BatcherConfig()


@pytest.fixture
def server(gated: GatedRunner, identity: str, config: BatcherConfig) -> Iterator[RankServerThread]:
    from millrace.inference.served_rankers import ServedRanker
    from millrace.testing.rank_server_thread import RankServerThread

    with RankServerThread(ServedRanker(gated, identity, "small", config=config)) as server:
        yield server
        gated.gate.set()


@pytest.fixture
def make_runner(ranker_folder: Path, server: RankServerThread) -> Iterator[Callable[..., GrpcRunner]]:
    from millrace.inference.grpc_runner import GrpcRunner

    made = []

    def make(*addresses: str, folder: Path = ranker_folder, **more: object) -> GrpcRunner:
        more.setdefault("timeout_ms", 1_000.0 * PATIENCE_S)
        made.append(GrpcRunner.of_folder(folder, addresses or [server.address], **more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for runner in made:
        runner.close()


@pytest.fixture
def runner(make_runner: Callable[..., GrpcRunner]) -> GrpcRunner:
    return make_runner()
