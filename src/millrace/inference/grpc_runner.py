"""`GrpcRunner`: a ranker that runs elsewhere, in ``millrace rank-server``; the same contract as one that runs here.

It is pinned to one model: the one whose embedding tables its floats come from. A server that does not hold that model
refuses, and the caller falls back. Every call has a deadline. A server that cannot be reached is passed over for the
next one, once; after a few failures in a row it is left alone for a while (`millrace.inference.rank_servers`), so that
a page does not wait for a server that hangs.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from millrace.base.clock import Clock, SystemClock
from millrace.base.errors import ConfigError, DeadlineExceeded, MillraceError, NotReadyError, SchemaError
from millrace.inference.grpc_import import OPTIONS, grpc
from millrace.inference.kept_viewers import viewers_key
from millrace.inference.numpy_runner import load_config
from millrace.inference.rank_servers import RankServers, ServerStanding
from millrace.inference.rank_wire import (
    FAULT_KEY,
    NOT_HELD,
    SERVICE,
    UNKNOWN_VIEWERS,
    WIRE_VERSION,
    DescribeRequest,
    Description,
    EncodedMessage,
    EncodeRequest,
    Fault,
    RankServerError,
    ScoreRequest,
    as_message,
    encoded_message,
    encoded_of,
    error_of,
    packed,
    predictions_of,
    ranker_identity,
    unpacked,
    viewers_message,
)
from millrace.inference.runner import (
    EncodedViewers,
    Float32Array,
    Viewers,
    check_candidate_rows,
    check_candidates,
    check_viewers,
)

TIMEOUT_MS: Final = 60.0

_MAX_KNOWN: Final = 65_536
_LOOK_AGAIN_S: Final = 0.1
_CONNECT_MS: Final = 1_000

# Nothing is tried again behind our back; a server that was restarted is found again within a second.
_CHANNEL: Final[list[tuple[str, Any]]] = [
    *OPTIONS,
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


class _UnknownViewersError(Exception):
    """The server does not keep the viewers of a key."""


class _UnreachableError(RankServerError):
    """Nobody answers at an address."""


class GrpcRunner:
    """Runs a ranker on a server; open it in the process that uses it: channels do not survive a fork.

    Parameters
    ----------
    addresses
        ``host:port`` of each server that holds the model.
    description
        The model.
    timeout_ms
        Given to one call, retries included.
    clock
        Its real time is what deadlines and rests are in.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        description: Description,
        *,
        timeout_ms: float = TIMEOUT_MS,
        clock: Clock | None = None,
    ) -> None:
        self.config = description.config
        self.description = description
        self._timeout_s = timeout_ms / 1000
        self._clock = clock or SystemClock()
        self._servers = RankServers(addresses, self._clock)
        # What gRPC calls the shortest backoff is how long it tries to connect. Were that less than a call waits, a
        # server that is merely busy would count as one that is gone.
        options = [*_CHANNEL, ("grpc.min_reconnect_backoff_ms", max(_CONNECT_MS, int(timeout_ms)))]
        self._channels = [grpc.insecure_channel(address, options=options) for address in addresses]
        self._calls = {
            name: [channel.unary_unary(f"/{SERVICE}/{name}") for channel in self._channels]
            for name in ("Describe", "Encode", "Score")
        }
        self._known = _Known()

    @classmethod
    def of_folder(
        cls,
        folder: Path,
        addresses: Sequence[str],
        *,
        timeout_ms: float = TIMEOUT_MS,
        clock: Clock | None = None,
    ) -> Self:
        """Return the runner of an exported ranker's folder, of which servers hold a copy; none has to run yet.

        Parameters
        ----------
        folder
            What the ranker is; its embedding tables stay on this side.
        addresses
            ``host:port`` of the servers.
        timeout_ms
            Given to one call, retries included.
        clock
            Its real time.

        Raises
        ------
        ConfigError
            If an address is none, or the folder holds no ranker.
        """
        for address in addresses:
            check_address(address)
        description = Description(WIRE_VERSION, ranker_identity(folder), folder.name, load_config(folder))
        return cls(addresses, description, timeout_ms=timeout_ms, clock=clock)

    @property
    def servers(self) -> tuple[ServerStanding, ...]:
        """How this client stands with each server."""
        return self._servers.standings()

    def describe(self, wait_s: float = 0.0, pause: Callable[[float], None] = time.sleep) -> Description:
        """Return what a server says of the model, and so find out whether one holds it.

        It asks whoever is left alone too, and a server that does not answer here is not left alone for that.

        Parameters
        ----------
        wait_s
            How long to ask again while none can be reached, or none holds it yet: a server follows a promotion within
            a second, and may be a moment later than its client.
        pause
            Waits for so many seconds, between two questions.

        Raises
        ------
        RankServerError, DeadlineExceeded
            If no server answers.
        NotReadyError
            If none holds the model.
        SchemaError
            If a server speaks another version of the wire.
        """
        request = packed(DescribeRequest(WIRE_VERSION, self.description.identity))
        until_s = self._clock.monotonic_s() + wait_s
        while True:
            try:
                return unpacked(self._ask("Describe", request, b"", is_probe=True), Description)
            except (NotReadyError, RankServerError, DeadlineExceeded):
                left_s = until_s - self._clock.monotonic_s()
                if left_s <= 0:
                    raise
            pause(min(_LOOK_AGAIN_S, left_s))

    def encode(self, viewers: Viewers) -> EncodedViewers:
        """Encode viewers; see `RankRunner`. Keys and values travel: `predict` leaves them on the server."""
        check_viewers(self.config, viewers)
        request = EncodeRequest(WIRE_VERSION, self.description.identity, viewers_message(viewers))
        data = self._ask("Encode", packed(request), b"")
        return encoded_of(unpacked(data, EncodedMessage))

    def score(self, candidates: Float32Array, encoded: EncodedViewers) -> Float32Array:
        """Score candidates; see `RankRunner`."""
        check_candidates(self.config, candidates, encoded)
        request = ScoreRequest(
            WIRE_VERSION, self.description.identity, as_message(candidates), encoded=encoded_message(encoded)
        )
        return self._predictions(request, candidates, b"")

    def predict(self, viewers: Viewers, candidates: Float32Array) -> Float32Array:
        """Return ``score(candidates, encode(viewers))`` in one call; see `WholeRunner`.

        Viewers that were sent before go as a key of 16 bytes alone, and again whole where the server has let them go.
        Of several servers the same viewers always ask the same one first.
        """
        check_viewers(self.config, viewers)
        check_candidate_rows(self.config, candidates, len(viewers.profile))
        key = viewers_key(viewers)
        request = ScoreRequest(WIRE_VERSION, self.description.identity, as_message(candidates), key=key)
        until_s = self._clock.monotonic_s() + self._timeout_s
        if self._known.has(key):
            try:
                return self._predictions(request, candidates, key, until_s)
            except _UnknownViewersError:
                pass
        whole = msgspec.structs.replace(request, viewers=viewers_message(viewers))
        predictions = self._predictions(whole, candidates, key, until_s)
        self._known.add(key)
        return predictions

    def close(self) -> None:
        """Close the channels; calls under way fail."""
        for channel in self._channels:
            channel.close()

    def _predictions(
        self, request: ScoreRequest, candidates: Float32Array, key: bytes, until_s: float | None = None
    ) -> Float32Array:
        shape = (len(candidates), candidates.shape[1], len(self.config.actions))
        return predictions_of(self._ask("Score", packed(request), key, until_s), shape)

    def _ask(
        self, name: str, data: bytes, key: bytes, until_s: float | None = None, *, is_probe: bool = False
    ) -> bytes:
        """Return the answer of the first server that can be reached: of those that are not left alone, two are asked.

        Calls with the same key ask in the same order. A probe asks everybody, and nobody's failures count.
        """
        order = self._servers.order(key)
        if not is_probe:
            order = self._servers.awake(order)
        if until_s is None:
            until_s = self._clock.monotonic_s() + self._timeout_s
        failed: MillraceError | None = None
        for at in order:
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                break
            try:
                answer = self._called(self._calls[name][at], self._servers.addresses[at], data, left_s)
            except _UnknownViewersError:
                self._servers.did_well(at)
                raise
            except (RankServerError, DeadlineExceeded, NotReadyError) as error:
                # What is full may have room the next moment; everything else counts.
                if not is_probe and (not isinstance(error, NotReadyError) or error.thing == NOT_HELD):
                    self._servers.failed(at, error)
                if not isinstance(error, (_UnreachableError, NotReadyError)):
                    raise
                failed = error  # gone, full, or without this model: the next one may do
                continue
            self._servers.did_well(at)
            return answer
        raise failed or _too_late(self._timeout_s)

    def _called(self, call: Callable[..., bytes], address: str, data: bytes, timeout_s: float) -> bytes:
        try:
            return call(data, timeout=timeout_s)
        except ValueError as error:  # what gRPC says of a channel that was closed
            raise NotReadyError("rank server's client", problem="is closed", remedy="open another one") from error
        except grpc.RpcError as error:
            fault = _fault(error)
            if fault is not None and fault.kind == UNKNOWN_VIEWERS:
                raise _UnknownViewersError from None
            if fault is not None:
                raise error_of(fault) from error
            code = error.code()
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _too_late(self._timeout_s) from error
            if code == grpc.StatusCode.UNAVAILABLE:
                raise _UnreachableError(
                    "rank server",
                    value=address,
                    problem=f"cannot be reached ({error.details()})",
                    remedy="start it: millrace rank-server; or correct its address",
                ) from error
            if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise NotReadyError(
                    "rank server", value=address, problem=f"refuses more ({error.details()})", remedy="add servers"
                ) from error
            raise RankServerError(
                "rank server",
                value=address,
                problem=f"failed: {code.name} ({error.details()})",
                remedy="see the rank server's log",
            ) from error


class _Known:
    """Keys of viewers that a server has been sent; a bounded number, and any of them may be known no more there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def has(self, key: bytes) -> bool:
        with self._lock:
            return key in self._keys

    def add(self, key: bytes) -> None:
        with self._lock:
            self._keys[key] = None
            if len(self._keys) > _MAX_KNOWN:
                self._keys.popitem(last=False)


def check_address(address: str) -> None:
    """Raise `ConfigError` unless an address is ``host:port``."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) <= 65_535):
        raise ConfigError(
            "rank server's address", value=address, problem="not HOST:PORT", remedy="write 127.0.0.1:8101"
        )


def _fault(error: Any) -> Fault | None:
    """Return the error of ours that a failed call carries; None where gRPC itself failed."""
    for name, value in error.trailing_metadata() or ():
        if name == FAULT_KEY:
            try:
                return unpacked(value, Fault)
            except SchemaError:
                return None
    return None


def _too_late(timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        "rank server's answer",
        value=f"{timeout_s * 1000:g} ms",
        problem="did not come in time",
        remedy="give it more time, or add servers",
    )
