"""A real ``millrace rank-server``: killed and stopped in the middle of requests, drained, and found again."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc", reason="grpcio is not installed: pip install '.[grpc]'")
pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")

from millrace.base.errors import DeadlineExceeded, MillraceError, NotReadyError
from millrace.inference.grpc_runner import GrpcRunner
from millrace.inference.rank_wire import RankServerError
from millrace.models.config import RankerConfig
from millrace.testing.rank_runner_contract import some_candidates, some_viewers
from millrace.testing.server_process import COMMAND, until
from millrace.testing.small_rankers import export_small_ranker

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

PATIENCE_S = 60.0
N_CLIENTS = 8


class RankServerProcess:
    """``millrace rank-server`` on a port of its own; what it says goes to a file."""

    def __init__(self, model: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._model = model
        self.log = folder / "rank-server.log"
        self.start()

    def start(self) -> None:
        with self.log.open("w") as messages:
            self.process = subprocess.Popen(
                [*COMMAND, "rank-server", "--model", str(self._model), "--address", self.address],
                stdout=messages,
                stderr=messages,
            )
        until(lambda: re.search(rf"Ready: {self.address}", self.log.read_text()), PATIENCE_S)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranker")
    export_small_ranker(folder)
    return folder


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[RankServerProcess]:
    server = RankServerProcess(model, tmp_path)
    yield server
    server.end()


@pytest.fixture
def make_runner(model: Path, server: RankServerProcess) -> Iterator[Callable[[float], GrpcRunner]]:
    made: list[GrpcRunner] = []

    def make(timeout_ms: float) -> GrpcRunner:
        made.append(GrpcRunner.of_folder(model, [server.address], timeout_ms=timeout_ms))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


def predict(runner: GrpcRunner, config: RankerConfig, seed: int) -> np.ndarray:
    return runner.predict(some_viewers(config, 1, seed=seed), some_candidates(config, 1, 50, seed))


def test_killed_in_the_middle_of_requests_each_ends_with_an_error_and_a_new_one_is_found_again(
    server: RankServerProcess, make_runner: Callable[[float], GrpcRunner]
) -> None:
    """Stopped first, so that requests are under way for certain; their own deadline is a minute away."""
    runner = make_runner(1000 * PATIENCE_S)
    before = predict(runner, runner.config, 0)
    server.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        answers = [pool.submit(predict, runner, runner.config, seed) for seed in range(N_CLIENTS)]
        server.process.kill()
        for answer in answers:
            with pytest.raises((RankServerError, NotReadyError)):
                answer.result(PATIENCE_S / 2)
    server.process.wait()
    server.start()

    def answers_again() -> bool:
        try:
            np.testing.assert_array_equal(predict(runner, runner.config, 0), before)
        except MillraceError:
            return False
        return True

    until(answers_again, PATIENCE_S)


def test_a_stopped_server_costs_each_request_its_deadline_at_most(
    server: RankServerProcess, make_runner: Callable[[float], GrpcRunner]
) -> None:
    runner = make_runner(1000 * PATIENCE_S)
    predict(runner, runner.config, 0)
    hasty = make_runner(200.0)
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineExceeded):
            predict(hasty, hasty.config, 0)
        with ThreadPoolExecutor(N_CLIENTS) as pool:
            answers = [pool.submit(predict, hasty, hasty.config, seed) for seed in range(N_CLIENTS)]
            for answer in answers:
                with pytest.raises((DeadlineExceeded, NotReadyError)):
                    answer.result(PATIENCE_S / 2)
    finally:
        server.process.send_signal(signal.SIGCONT)
    predict(runner, runner.config, 1)


def test_told_to_end_it_answers_what_is_under_way_and_ends_cleanly(
    server: RankServerProcess, make_runner: Callable[[float], GrpcRunner]
) -> None:
    """Every request either has its answer or was refused as the server was going."""
    runner = make_runner(1000 * PATIENCE_S)
    expected = {seed: predict(runner, runner.config, seed) for seed in range(N_CLIENTS)}
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        answers = [pool.submit(predict, runner, runner.config, number % N_CLIENTS) for number in range(200)]
        answers[20].result(PATIENCE_S)
        server.process.terminate()
        n_answered = 0
        for number, answer in enumerate(answers):
            try:
                found = answer.result(PATIENCE_S)
            except MillraceError:
                continue
            n_answered += 1
            np.testing.assert_allclose(found, expected[number % N_CLIENTS], rtol=1e-6, atol=1e-6)
    assert n_answered > 20
    assert server.process.wait(PATIENCE_S) == 0
    assert "stopped" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
