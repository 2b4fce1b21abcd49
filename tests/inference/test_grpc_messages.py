"""The rank server's wire: what a client that is not ours may send, and what it is answered."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("grpc", reason="grpcio is not installed: pip install '.[grpc]'")

import grpc

from millrace.base.errors import SchemaError
from millrace.inference.grpc_runner import GrpcRunner
from millrace.inference.rank_server import NOT_SERVING, SERVING
from millrace.inference.rank_wire import (
    HEALTH_SERVICE,
    SERVICE,
    WIRE_VERSION,
    DescribeRequest,
    RankServerError,
    ScoreRequest,
    as_message,
    packed,
    viewers_message,
)
from millrace.testing.gated_runner import PATIENCE_S, GatedRunner
from millrace.testing.rank_runner_contract import some_candidates, some_viewers
from millrace.testing.rank_server_thread import RankServerThread


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

    def test_arrays_are_checked_by_the_server_too(
        self, server: RankServerThread, gated: GatedRunner, identity: str
    ) -> None:
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
        self, server: RankServerThread, gated: GatedRunner, runner: GrpcRunner, identity: str
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
