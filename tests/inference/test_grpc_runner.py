"""The ranker over gRPC: the contract, what is kept on the server, and what goes wrong on the way."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("grpc", reason="grpcio is not installed: pip install '.[grpc]'")

import grpc

from millrace.base.errors import ConfigError, DeadlineExceeded, NotReadyError, SchemaError
from millrace.inference.batcher import BatcherConfig
from millrace.inference.grpc_runner import GrpcRunner
from millrace.inference.onnx_runner import OnnxRunner
from millrace.inference.rank_server import NOT_SERVING, SERVING
from millrace.inference.rank_servers import LONGEST_REST_S, MAX_FAILURES, REST_S
from millrace.inference.rank_wire import (
    HEALTH_SERVICE,
    SERVICE,
    WIRE_VERSION,
    DescribeRequest,
    RankServerError,
    ScoreRequest,
    as_message,
    packed,
    ranker_identity,
    viewers_message,
)
from millrace.inference.runner import EncodedViewers, Float32Array, RankRunner, Viewers
from millrace.inference.served_rankers import ServedRanker
from millrace.testing.rank_runner_contract import RankRunnerContract, some_candidates, some_viewers
from millrace.testing.rank_server_thread import RankServerThread
from millrace.testing.server_process import until
from millrace.testing.told_clock import ToldClock

PATIENCE_S = 30
PATIENCE_MS = 1_000.0 * PATIENCE_S


class Gated:
    """A runner that counts what it does, and scores when it is let."""

    def __init__(self, runner: RankRunner) -> None:
        self.config = runner.config
        self._runner = runner
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.n_encoded = 0
        self.n_scored: list[int] = []

    def encode(self, viewers: Viewers) -> EncodedViewers:
        self.n_encoded += len(viewers.profile)
        return self._runner.encode(viewers)

    def score(self, candidates: Float32Array, encoded: EncodedViewers) -> Float32Array:
        self.n_scored.append(len(candidates))
        self.began.set()
        assert self.gate.wait(PATIENCE_S)
        return self._runner.score(candidates, encoded)

    def close(self) -> None:
        self._runner.close()


@pytest.fixture(scope="module")
def identity(ranker_folder: Path) -> str:
    return ranker_identity(ranker_folder)


@pytest.fixture
def gated(ranker_folder: Path) -> Gated:
    return Gated(OnnxRunner.open(ranker_folder))


@pytest.fixture
def config() -> BatcherConfig:
    return BatcherConfig()


@pytest.fixture
def server(gated: Gated, identity: str, config: BatcherConfig) -> Iterator[RankServerThread]:
    with RankServerThread(ServedRanker(gated, identity, "small", config=config)) as server:
        yield server
        gated.gate.set()


@pytest.fixture
def make_runner(ranker_folder: Path, server: RankServerThread) -> Iterator[Callable[..., GrpcRunner]]:
    made = []

    def make(*addresses: str, folder: Path = ranker_folder, **more: object) -> GrpcRunner:
        more.setdefault("timeout_ms", PATIENCE_MS)
        made.append(GrpcRunner.of_folder(folder, addresses or [server.address], **more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for runner in made:
        runner.close()


@pytest.fixture
def runner(make_runner: Callable[..., GrpcRunner]) -> GrpcRunner:
    return make_runner()


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
    def gated(self, ranker_folder: Path) -> Gated:
        from millrace.inference.torch_runner import TorchRunner

        return Gated(TorchRunner.serving(ranker_folder, "bf16"))

    def test_in_one_call_the_predictions_are_those_of_two(self, runner: GrpcRunner) -> None:
        """What a page does."""
        viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1, 20)
        in_two = runner.score(candidates, runner.encode(viewers))
        np.testing.assert_allclose(runner.predict(viewers, candidates), in_two, rtol=0, atol=self.own_tolerance)


def test_in_one_call_the_predictions_are_the_same_and_viewers_are_encoded_once(
    runner: GrpcRunner, gated: Gated, ranker_folder: Path
) -> None:
    here = OnnxRunner.open(ranker_folder)
    viewers = some_viewers(runner.config, 1)
    for seed in range(3):
        candidates = some_candidates(runner.config, 1, 20, seed)
        expected = here.score(candidates, here.encode(viewers))
        np.testing.assert_allclose(runner.predict(viewers, candidates), expected, rtol=1e-6, atol=1e-6)
    assert gated.n_encoded == 1


def test_viewers_that_the_server_has_let_go_are_sent_again(
    runner: GrpcRunner, server: RankServerThread, gated: Gated
) -> None:
    viewers, candidates = some_viewers(runner.config, 1), some_candidates(runner.config, 1)
    first = runner.predict(viewers, candidates)
    (ranker,) = server.rankers.all()
    ranker.kept._by_key.clear()
    np.testing.assert_array_equal(runner.predict(viewers, candidates), first)
    np.testing.assert_array_equal(runner.predict(viewers, candidates), first)
    assert gated.n_encoded == 2


def test_a_viewer_with_news_is_another_viewer(runner: GrpcRunner, gated: Gated) -> None:
    candidates = some_candidates(runner.config, 1)
    before = runner.predict(some_viewers(runner.config, 1), candidates)
    after = runner.predict(some_viewers(runner.config, 1, 13), candidates)
    assert np.abs(before - after).max() > 1e-4
    assert gated.n_encoded == 2


def test_many_at_once_run_in_batches_and_answer_as_alone(
    runner: GrpcRunner, gated: Gated, server: RankServerThread, ranker_folder: Path
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


def test_a_hanging_server_ends_a_call_at_its_deadline(make_runner: Callable[..., GrpcRunner], gated: Gated) -> None:
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
    make_runner: Callable[..., GrpcRunner], gated: Gated, server: RankServerThread
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
    make_runner: Callable[..., GrpcRunner], gated: Gated, server: RankServerThread, config: BatcherConfig
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
    make_runner: Callable[..., GrpcRunner], server: RankServerThread, gated: Gated
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
    make_runner: Callable[..., GrpcRunner], gated: Gated, identity: str
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
    make_runner: Callable[..., GrpcRunner], gated: Gated, server: RankServerThread, ranker_folder: Path
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
    make_runner: Callable[..., GrpcRunner], gated: Gated, identity: str
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


class TestMessages:
    """What a client that is not ours may send."""

    def call(self, server: RankServerThread, method: str, data: bytes) -> bytes:
        with grpc.insecure_channel(server.address) as channel:
            answer: bytes = channel.unary_unary(method)(data, timeout=PATIENCE_S)
            return answer

    def refusal(self, server: RankServerThread, data: bytes, call: str = "Score") -> tuple[object, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(server, f"/{SERVICE}/{call}", data)
        return caught.value.code(), caught.value.details()

    def score_request(self, config: object, identity: str) -> ScoreRequest:
        viewers = some_viewers(config, 1)  # type: ignore[arg-type]
        candidates = some_candidates(config, 1)  # type: ignore[arg-type]
        return ScoreRequest(WIRE_VERSION, identity, as_message(candidates), viewers=viewers_message(viewers))

    def test_another_version_of_the_wire_is_refused(self, server: RankServerThread) -> None:
        code, details = self.refusal(server, packed(DescribeRequest(WIRE_VERSION + 1)), "Describe")
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert f"is not {WIRE_VERSION}" in details

    @pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x93\x01\x02\x03", b"\x80\x04\x95pickled"])
    def test_noise_is_refused(self, server: RankServerThread, data: bytes) -> None:
        for call in ("Describe", "Encode", "Score"):
            code, details = self.refusal(server, data, call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "cannot be read" in details

    def test_arrays_are_checked_by_the_server_too(self, server: RankServerThread, gated: Gated, identity: str) -> None:
        """Shapes that the bytes do not fill; shapes of another model; numbers that are none; keys of others."""
        request = self.score_request(gated.config, identity)
        one = request.candidates
        bad = some_candidates(gated.config, 1)
        bad[0, 0, 0] = np.nan
        changes: dict[str, dict[str, Any]] = {
            "do not fill shape": {"candidates": msgspec.structs.replace(one, shape=(1, 8, one.shape[2]))},
            "not of shape": {"candidates": as_message(some_candidates(gated.config, 2))},
            "a number is not finite": {"candidates": as_message(bad)},
            "not float32": {"candidates": as_message(np.zeros(one.shape, dtype=np.bool_))},
            "is not that of the viewers": {"key": b"another's"},
        }
        for problem, change in changes.items():
            code, details = self.refusal(server, packed(msgspec.structs.replace(request, **change)))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert problem in details
        assert gated.n_scored == []
        assert self.call(server, f"/{SERVICE}/Score", packed(request))

    def test_a_failing_model_is_an_internal_error_that_tells_no_secrets(
        self, server: RankServerThread, gated: Gated, runner: GrpcRunner, identity: str
    ) -> None:
        gated.encode = None  # type: ignore[assignment, method-assign]
        code, details = self.refusal(server, packed(self.score_request(gated.config, identity)))
        assert code is grpc.StatusCode.INTERNAL
        assert details == "rank server: failed with TypeError"
        with pytest.raises(RankServerError, match="failed with TypeError; see the rank server's log"):
            runner.encode(some_viewers(runner.config, 1))

    def test_the_standard_health_check_is_answered(self, server: RankServerThread) -> None:
        check = f"/{HEALTH_SERVICE}/Check"
        named = bytes([10, len(SERVICE)]) + SERVICE.encode()
        assert self.call(server, check, b"") == self.call(server, check, named) == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            self.call(server, check, b"\x0a\x05other")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    def test_a_server_without_a_model_says_so(self) -> None:
        with RankServerThread() as server:
            assert self.call(server, f"/{HEALTH_SERVICE}/Check", b"") == NOT_SERVING
            code, details = self.refusal(server, packed(DescribeRequest(WIRE_VERSION)), "Describe")
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert "none yet" in details


def test_errors_of_a_schema_come_back_as_such(runner: GrpcRunner, server: RankServerThread) -> None:
    """Where client and server disagree about what fits."""
    runner.config = msgspec.structs.replace(runner.config, n_dense=runner.config.n_dense + 1)
    with pytest.raises(SchemaError, match=r"candidates.*not of shape"):
        runner.predict(some_viewers(runner.config, 1), some_candidates(runner.config, 1))
