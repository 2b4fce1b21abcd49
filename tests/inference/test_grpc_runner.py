"""The ranker over gRPC: the contract, what is kept on the server, and what goes wrong on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc", reason="grpcio is not installed: pip install 'millrace[grpc]'")

from millrace.inference.grpc_runner import GrpcRunner
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.served_rankers import ServedRanker
from millrace.testing.rank_runner_contract import RankRunnerContract, some_candidates, some_viewers
from millrace.testing.rank_server_thread import RankServerThread


@pytest.fixture
def server(ranker_folder: Path) -> Iterator[RankServerThread]:
    with RankServerThread(ServedRanker(OnnxRunner.open(ranker_folder), "small")) as server:
        yield server


@pytest.fixture
def runner(server: RankServerThread) -> Iterator[GrpcRunner]:
    runner = GrpcRunner.open([server.address], timeout_ms=30_000)
    yield runner
    runner.close()


class TestGrpcRunner(RankRunnerContract):
    pass
