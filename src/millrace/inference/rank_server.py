"""`RankServer`: rankers over gRPC: describe, encode, score, and the standard health check.

One event loop reads and writes; each ranker computes on a thread of its own (`Batcher`). Arrays are checked before
they queue, so that a wrong request is refused by name and fails alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from millrace.base.clock import Clock, SystemClock
from millrace.base.errors import ConfigError, DeadlineExceeded, MillraceError, NotReadyError, SchemaError
from millrace.inference.grpc_import import OPTIONS, grpc
from millrace.inference.kept_viewers import viewers_key
from millrace.inference.rank_batches import RankAnswer, RankJob
from millrace.inference.rank_wire import (
    FAULT_KEY,
    HEALTH_SERVICE,
    SERVICE,
    UNKNOWN_VIEWERS,
    DescribeRequest,
    EncodeRequest,
    Fault,
    ScoreRequest,
    as_array,
    as_message,
    encoded_message,
    encoded_of,
    fault_of,
    packed,
    unpacked,
    viewers_of,
)
from millrace.inference.runner import check_candidate_rows, check_candidates, check_viewers
from millrace.inference.served_rankers import ServedRanker, ServedRankers

SERVING: Final = b"\x08\x01"
NOT_SERVING: Final = b"\x08\x02"
"""Answers of the health check, as its protocol encodes them."""

_MAX_S: Final = 30.0  # for a request that names no deadline
_MAX_CALLS: Final = 1024
_LATER: Final = frozenset({"batcher", "batcher's queue"})

logger = logging.getLogger(__name__)

Handler = Callable[[bytes, Any], Awaitable[bytes]]


class CallObserver(Protocol):
    """Hears of calls, for metrics."""

    def answered(self, call: str, code: str, took_s: float) -> None:
        """Take one call: its name, how it ended as gRPC names it, and the seconds it took."""


class _NobodyHears:
    def answered(self, call: str, code: str, took_s: float) -> None:
        pass


class _UnknownViewersError(Exception):
    """The server keeps no viewers under the key it was sent."""


class RankServer:
    """Answers for the rankers that it is given; made, started and stopped in one event loop.

    Parameters
    ----------
    rankers
        What it holds, which may change while it serves.
    address
        ``host:port``; port 0 takes a free one.
    clock
        Its real time is what the batchers' deadlines are in.
    observer
        Hears of calls.
    """

    def __init__(
        self,
        rankers: ServedRankers,
        address: str,
        *,
        clock: Clock | None = None,
        observer: CallObserver | None = None,
    ) -> None:
        self._rankers = rankers
        self._address = address
        self._now_s = (clock or SystemClock()).monotonic_s
        self._observer = observer or _NobodyHears()
        self._is_draining = False
        self._server: Any = None

    async def start(self) -> int:
        """Begin to answer; return the port.

        Raises
        ------
        ConfigError
            If the address cannot be listened on.
        """
        options = [*OPTIONS, ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_MAX_CALLS)
        calls: dict[str, Handler] = {"Describe": self._describe, "Encode": self._encode, "Score": self._score}
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._guarded(name, call)) for name, call in calls.items()
        }
        health = {"Check": grpc.unary_unary_rpc_method_handler(self._health)}
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, handlers),
                grpc.method_handlers_generic_handler(HEALTH_SERVICE, health),
            )
        )
        try:
            port: int = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise ConfigError(
                "rank server's address",
                value=self._address,
                problem="cannot be listened on",
                remedy="end the program that uses the port, or name another: --address 127.0.0.1:8102",
            ) from error
        await self._server.start()
        return port

    async def stop(self, grace_s: float = 10.0) -> None:
        """Tell the health check so, refuse new calls, and end when those under way have, or the time is over."""
        self._is_draining = True
        if self._server is not None:
            await self._server.stop(grace_s)

    def _guarded(self, name: str, call: Handler) -> Handler:
        async def guarded(data: bytes, context: Any) -> bytes:
            start_s = time.perf_counter()
            code, fault = "OK", None
            try:
                return await call(data, context)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception as error:
                code, fault = _code_of(error)
                if code == "INTERNAL":
                    logger.exception("rank server: %s failed", name)
            finally:
                self._observer.answered(name, code, time.perf_counter() - start_s)
            await context.abort(
                getattr(grpc.StatusCode, code), f"{fault.thing}: {fault.problem}", ((FAULT_KEY, packed(fault)),)
            )
            raise AssertionError  # abort has raised

        return guarded

    async def _describe(self, data: bytes, _context: Any) -> bytes:
        return packed(self._rankers.get(unpacked(data, DescribeRequest).identity).description)

    async def _encode(self, data: bytes, context: Any) -> bytes:
        request = unpacked(data, EncodeRequest)
        ranker = self._rankers.get(request.identity)
        viewers = viewers_of(request.viewers)
        check_viewers(ranker.config, viewers)
        answer = await self._answer(ranker, RankJob(viewers=viewers), context)
        if answer.encoded is None:
            raise RuntimeError("no encoded viewers")
        return packed(encoded_message(answer.encoded))

    async def _score(self, data: bytes, context: Any) -> bytes:
        request = unpacked(data, ScoreRequest)
        ranker = self._rankers.get(request.identity)
        answer = await self._answer(ranker, _job(ranker, request), context)
        if answer.predictions is None:
            raise RuntimeError("no predictions")
        return packed(as_message(answer.predictions))

    async def _answer(self, ranker: ServedRanker, job: RankJob, context: Any) -> RankAnswer:
        left_s = context.time_remaining()
        deadline_s = self._now_s() + (_MAX_S if left_s is None else min(left_s, _MAX_S))
        return await asyncio.wrap_future(ranker.batcher.submit(job, deadline_s))

    async def _health(self, data: bytes, context: Any) -> bytes:
        # A HealthCheckRequest has one field, the name of a service as text; empty asks for the whole server.
        if data and data[2:] != SERVICE.encode():
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return NOT_SERVING if self._is_draining or not self._rankers.default else SERVING


def _job(ranker: ServedRanker, request: ScoreRequest) -> RankJob:
    """Return the job of a request, checked; what is kept under its key comes before viewers that it brings."""
    candidates = as_array("candidates", request.candidates)
    if request.encoded is not None:
        encoded = encoded_of(request.encoded)
        check_candidates(ranker.config, candidates, encoded)
        return RankJob(encoded=encoded, candidates=candidates)
    kept = ranker.kept.get(request.key) if request.key else None
    if kept is not None:
        check_candidates(ranker.config, candidates, kept)
        return RankJob(encoded=kept, candidates=candidates)
    if request.viewers is None:
        raise _UnknownViewersError
    viewers = viewers_of(request.viewers)
    check_viewers(ranker.config, viewers)
    check_candidate_rows(ranker.config, candidates, len(viewers.profile))
    if request.key and request.key != viewers_key(viewers):
        raise SchemaError(
            "viewers' key",
            value=request.key.hex(),
            problem="is not that of the viewers that came with it",
            remedy="take that of millrace.inference.kept_viewers.viewers_key",
        )
    return RankJob(viewers=viewers, candidates=candidates, key=request.key)


def _code_of(error: Exception) -> tuple[str, Fault]:
    """Return how a failed call ends, as gRPC names it, and what the client is told."""
    if isinstance(error, _UnknownViewersError):
        return "NOT_FOUND", Fault(UNKNOWN_VIEWERS, "viewers", None, "are not kept here", "send them")
    fault = fault_of(error)
    if isinstance(error, SchemaError):
        return "INVALID_ARGUMENT", fault
    if isinstance(error, DeadlineExceeded):
        return "DEADLINE_EXCEEDED", fault
    if isinstance(error, NotReadyError):
        return ("RESOURCE_EXHAUSTED" if error.thing in _LATER else "FAILED_PRECONDITION"), fault
    return ("FAILED_PRECONDITION" if isinstance(error, MillraceError) else "INTERNAL"), fault
