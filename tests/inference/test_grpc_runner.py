"""The ranker over gRPC: the contract, what is kept on the server, and what goes wrong on the way."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc", reason="grpcio is not installed: pip install '.[grpc]'")


from millrace.base.errors import ConfigError, DeadlineExceeded, NotReadyError
from millrace.inference.batcher import BatcherConfig
from millrace.inference.grpc_runner import GrpcRunner
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.rank_servers import LONGEST_REST_S, MAX_FAILURES, REST_S
from millrace.inference.rank_wire import (
    RankServerError,
    ranker_identity,
)
from millrace.inference.served_rankers import ServedRanker
from millrace.testing.gated_runner import PATIENCE_S, GatedRunner
from millrace.testing.rank_runner_contract import RankRunnerContract, some_candidates, some_viewers
from millrace.testing.rank_server_thread import RankServerThread
from millrace.testing.server_process import until
from millrace.testing.told_clock import ToldClock


def unused_address() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class TestGrpcRunner(RankRunnerContract):
    """In two calls."""


class TestGrpcRunnerOfBf16(RankRunnerContract):
    """The server computes in torch, in bf16: the client keeps the contract within what that allows."""

    tolerance = 0.02
    encoding_tolerance = 0.1
    padding_tolerance = 0.01

    @pytest.fixture
    def gated(self, ranker_folder: Path) -> GatedRunner:
        from millrace.inference.torch_runner import TorchRunner

        return GatedRunner(TorchRunner.serving(ranker_folder, "bf16"))

    def test_in_one_call_the_predictions_are_those_of_two(self, runner: GrpcRunner) -> None:
        """What a page does."""
        viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1, 20)
        in_two = runner.score(candidates, runner.encode(viewers))
        np.testing.assert_allclose(runner.predict(viewers, candidates), in_two, rtol=0, atol=self.own_tolerance)


def test_in_one_call_the_predictions_are_the_same_and_viewers_are_encoded_once(
    runner: GrpcRunner, gated: GatedRunner, ranker_folder: Path
) -> None:
    here = OnnxRunner.open(ranker_folder)
    viewers = some_viewers(runner.config, 1)
    for seed in range(3):
        candidates = some_candidates(runner.config, 1, 20, seed)
        expected = here.score(candidates, here.encode(viewers))
        np.testing.assert_allclose(runner.predict(viewers, candidates), expected, rtol=1e-6, atol=1e-6)
    assert gated.n_encoded == 1


def test_viewers_that_the_server_has_let_go_are_sent_again(
    runner: GrpcRunner, server: RankServerThread, gated: GatedRunner
) -> None:
    viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
    first = runner.predict(viewers, candidates)
    (ranker,) = server.rankers.all()
    ranker.kept._by_key.clear()
    np.testing.assert_array_equal(runner.predict(viewers, candidates), first)
    np.testing.assert_array_equal(runner.predict(viewers, candidates), first)
    assert gated.n_encoded == 2


def test_a_viewer_with_news_is_another_viewer(runner: GrpcRunner, gated: GatedRunner) -> None:
    candidates = some_candidates(runner.config, 1)
    before = runner.predict(some_viewers(runner.config, 1), candidates)
    after = runner.predict(some_viewers(runner.config, 1, 13), candidates)
    assert np.abs(before - after).max() > 1e-4
    assert gated.n_encoded == 2


def test_many_at_once_run_in_batches_and_answer_as_alone(
    runner: GrpcRunner, gated: GatedRunner, server: RankServerThread, ranker_folder: Path
) -> None:
    """One run is held until all others have come: they are joined."""
    here = OnnxRunner.open(ranker_folder)
    asked = [(some_viewers(here.config, 1, n, n), some_candidates(here.config, 1, 9, n)) for n in range(12)]
    (ranker,) = server.rankers.all()
    gated.gate.clear()
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(runner.predict, *asked[0])]
        assert gated.began.wait(PATIENCE_S)
        answers += [pool.submit(runner.predict, *pair) for pair in asked[1:]]
        until(lambda: ranker.batcher.n_queued == 11, PATIENCE_S)
        gated.gate.set()
        for (viewers, candidates), answer in zip(asked, answers, strict=True):
            expected = here.score(candidates, here.encode(viewers))
            np.testing.assert_allclose(answer.result(PATIENCE_S), expected, rtol=1e-6, atol=1e-6)
    assert gated.n_scored == [1, 11]


def test_a_hanging_server_ends_a_call_at_its_deadline(
    make_runner: Callable[..., GrpcRunner], gated: GatedRunner
) -> None:
    runner = make_runner(timeout_ms=100.0)
    gated.gate.clear()
    viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
    with pytest.raises(DeadlineExceeded, match="did not come in time"):
        runner.predict(viewers, candidates)


def test_a_server_too_busy_to_accept_has_as_long_as_the_call(make_runner: Callable[..., GrpcRunner]) -> None:
    """The kernel takes the connection, nobody answers on it: late, and not gone."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        runner = make_runner(f"127.0.0.1:{busy.getsockname()[1]}", timeout_ms=300.0)
        with pytest.raises(DeadlineExceeded, match="did not come in time"):
            runner.predict(some_viewers(runner.config, 1), some_candidates(runner.config, 1))


def test_a_request_that_queued_past_its_deadline_is_not_run(
    make_runner: Callable[..., GrpcRunner], gated: GatedRunner, server: RankServerThread
) -> None:
    patient, hasty = make_runner(), make_runner(timeout_ms=100.0)
    viewers, candidates = some_viewers(patient.config, 1), some_candidates(patient.config, 1)
    gated.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(patient.predict, viewers, candidates)
        assert gated.began.wait(PATIENCE_S)
        with pytest.raises(DeadlineExceeded):
            hasty.predict(some_viewers(patient.config, 1, seed=9), candidates)
        gated.gate.set()
        first.result(PATIENCE_S)
    patient.predict(viewers, candidates)
    assert gated.n_encoded == 1
    assert gated.n_scored == [1, 1]


@pytest.mark.parametrize("config", [BatcherConfig(max_queue=1)])
def test_overload_is_refused_at_once(
    make_runner: Callable[..., GrpcRunner], gated: GatedRunner, server: RankServerThread, config: BatcherConfig
) -> None:
    runner = make_runner()
    viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
    (ranker,) = server.rankers.all()
    gated.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(runner.predict, viewers, candidates)
        assert gated.began.wait(PATIENCE_S)
        queued = pool.submit(runner.predict, viewers, candidates)
        until(lambda: ranker.batcher.n_queued == 1, PATIENCE_S)
        with pytest.raises(NotReadyError, match="batcher's queue '1': is full"):
            runner.predict(viewers, candidates)
        assert [standing.n_failures for standing in runner.servers] == [0]  # it may have room the next moment
        gated.gate.set()
        np.testing.assert_array_equal(running.result(PATIENCE_S), queued.result(PATIENCE_S))


def test_nobody_at_an_address_is_a_clear_error(make_runner: Callable[..., GrpcRunner]) -> None:
    runner = make_runner(unused_address())
    with pytest.raises(RankServerError, match=r"rank server '127.*cannot be reached.*start it: millrace rank-server"):
        runner.predict(some_viewers(runner.config, 1), some_candidates(runner.config, 1))


def test_another_server_is_asked_where_one_is_gone(
    make_runner: Callable[..., GrpcRunner], server: RankServerThread
) -> None:
    """Whichever of the two is asked first."""
    for addresses in ((unused_address(), server.address), (server.address, unused_address())):
        runner = make_runner(*addresses)
        for seed in range(4):
            viewers = some_viewers(runner.config, 1, seed=seed)
            scores = runner.predict(viewers, some_candidates(runner.config, 1))
            assert np.isfinite(scores).all()
            assert runner.encode(viewers).n == 1


def test_after_some_failures_nobody_is_asked_for_a_moment(
    make_runner: Callable[..., GrpcRunner], server: RankServerThread, gated: GatedRunner
) -> None:
    clock = ToldClock()
    runner = make_runner(clock=clock, timeout_ms=50.0)
    asked = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
    gated.gate.clear()
    for _ in range(MAX_FAILURES):
        with pytest.raises(DeadlineExceeded):
            runner.predict(*asked)
    with pytest.raises(NotReadyError, match=r"failed 3 times in a row and is left alone"):
        runner.predict(*asked)
    gated.gate.set()
    clock.s += REST_S
    runner._timeout_s = PATIENCE_S
    assert np.isfinite(runner.predict(*asked)).all()
    assert np.isfinite(runner.predict(*asked)).all()


def test_a_server_that_is_gone_is_tried_again_after_longer_and_longer_rests_and_found_when_it_is_back(
    make_runner: Callable[..., GrpcRunner], gated: GatedRunner, identity: str
) -> None:
    clock, address = ToldClock(), unused_address()
    runner = make_runner(address, clock=clock)
    asked = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
    for _ in range(MAX_FAILURES):
        with pytest.raises(RankServerError, match="cannot be reached"):
            runner.predict(*asked)
    rests = []
    for _ in range(7):
        (standing,) = runner.servers
        assert "cannot be reached" in standing.problem
        rests.append(standing.rests_s)
        clock.s += standing.rests_s - 0.01
        with pytest.raises(NotReadyError, match=r"is left alone for 0\.0 s \(cannot be reached"):
            runner.predict(*asked)
        clock.s += 0.02
        with pytest.raises(RankServerError, match="cannot be reached"):
            runner.predict(*asked)
    assert rests == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_REST_S, LONGEST_REST_S])
    clock.s += LONGEST_REST_S
    with RankServerThread(ServedRanker(gated, identity, "small"), port=int(address.rpartition(":")[2])):
        until(lambda: finds(runner), PATIENCE_S)
        clock.s += LONGEST_REST_S
        assert np.isfinite(runner.predict(*asked)).all()
    assert [(standing.n_failures, standing.problem) for standing in runner.servers] == [(0, "")]


def finds(runner: GrpcRunner) -> bool:
    """Whether a server answers a probe: the channel looks again by itself within a second."""
    try:
        runner.describe()
    except RankServerError:
        return False
    return True


def test_a_server_that_refuses_is_left_alone_and_the_others_are_asked(
    make_runner: Callable[..., GrpcRunner], gated: GatedRunner, server: RankServerThread, ranker_folder: Path
) -> None:
    """One holds another model; whoever asks it first goes on to the other, and soon does not ask it at all."""
    clock = ToldClock()
    with RankServerThread(ServedRanker(OnnxRunner.open(ranker_folder), "another", "other")) as other:
        runner = make_runner(other.address, server.address, clock=clock)
        candidates = some_candidates(runner.config, 1)
        for seed in range(40):
            assert np.isfinite(runner.predict(some_viewers(runner.config, 1, seed=seed), candidates)).all()
        refusing, answering = runner.servers
        assert (refusing.n_failures, refusing.rests_s) == (MAX_FAILURES, REST_S)
        assert "is not among those" in refusing.problem
        assert (answering.n_failures, answering.rests_s, answering.problem) == (0, 0.0, "")
        # It gets the model: the next call after the rest finds it.
        other.rankers.hold(runner.description.identity, lambda: ServedRanker(gated, runner.description.identity))
        clock.s += REST_S
        for seed in range(10):
            runner.predict(some_viewers(runner.config, 1, seed=seed), candidates)
        assert [standing.n_failures for standing in runner.servers] == [0, 0]


def test_waiting_for_a_server_at_the_start_costs_no_rest(make_runner: Callable[..., GrpcRunner]) -> None:
    runner = make_runner(unused_address(), clock=ToldClock())
    for _ in range(2 * MAX_FAILURES):
        with pytest.raises(RankServerError):
            runner.describe()
    assert [(standing.n_failures, standing.rests_s) for standing in runner.servers] == [(0, 0.0)]


def test_waiting_for_a_server_ends_when_it_was_told_to_or_when_one_is_there(
    make_runner: Callable[..., GrpcRunner], gated: GatedRunner, identity: str
) -> None:
    clock, address, waits = ToldClock(), unused_address(), list[float]()
    runner = make_runner(address, clock=clock)

    def pause(s: float) -> None:
        waits.append(s)
        clock.s += s

    with pytest.raises(RankServerError, match="cannot be reached"):
        runner.describe(wait_s=0.25, pause=pause)
    assert waits == pytest.approx([0.1, 0.1, 0.05])
    with RankServerThread(ServedRanker(gated, identity, "small"), port=int(address.rpartition(":")[2])):
        until(lambda: finds(runner), PATIENCE_S)
        waits.clear()
        assert runner.describe(wait_s=0.25, pause=pause).name == "small"
    assert waits == []


def test_another_model_than_the_clients_is_refused(
    make_runner: Callable[..., GrpcRunner], ranker_folder: Path, tmp_path: Path
) -> None:
    """One whose embedding table differs by a byte: its floats mean something else."""
    folder = tmp_path / "other"
    shutil.copytree(ranker_folder, folder)
    assert ranker_identity(folder) == ranker_identity(ranker_folder)
    (folder / "tokens.npy").write_bytes(b"another table")
    runner = make_runner(folder=folder)
    with pytest.raises(NotReadyError, match=r"is not among those that the rank server holds \(small\)"):
        runner.predict(some_viewers(runner.config, 1), some_candidates(runner.config, 1))
    with pytest.raises(NotReadyError):
        runner.describe()


def test_a_server_describes_its_model(runner: GrpcRunner, identity: str) -> None:
    described = runner.describe()
    assert (described.identity, described.name) == (identity, "small")
    assert described.config == runner.config


def test_a_server_that_is_closed_or_a_client_that_is_fails_clearly(
    make_runner: Callable[..., GrpcRunner], server: RankServerThread
) -> None:
    runner, other = make_runner(), make_runner()
    asked = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
    runner.predict(*asked)
    runner.close()
    with pytest.raises(NotReadyError, match="is closed"):
        runner.predict(*asked)
    server.stop()
    with pytest.raises(RankServerError, match="cannot be reached"):
        other.predict(*asked)


@pytest.mark.parametrize("address", ["localhost", ":8101", "host:port", "127.0.0.1:70000", ""])
def test_an_address_that_is_none_is_refused(ranker_folder: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="not HOST:PORT"):
        GrpcRunner.of_folder(ranker_folder, [address])
