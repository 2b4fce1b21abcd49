"""What travels between a rank server and its clients: MessagePack messages that carry raw little-endian arrays.

gRPC carries them as bytes: there are no generated stubs, and nothing is ever unpickled. Every message names the wire's
version, and every request the one model that its arrays were assembled for, by the sum of that model's files
(`ranker_identity`): the embedding tables are read on the client's side, so another model's graphs would take its
floats and answer nonsense.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from millrace.base.errors import ConfigError, DeadlineExceeded, MillraceError, NotReadyError, SchemaError
from millrace.inference.runner import EncodedViewers, Float32Array, Viewers
from millrace.models.config import RankerConfig

WIRE_VERSION: Final = 1
SERVICE: Final = "millrace.rank.v1.Ranker"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
FAULT_KEY: Final = "millrace-fault-bin"
NOT_HELD: Final = "ranker"
"""The thing that is not ready where a server does not hold the model that it is asked for."""
MAX_MESSAGE_BYTES: Final = 64 << 20

_MANIFEST: Final = "manifest.json"
_DTYPES: Final = {"<f4": np.dtype(np.float32), "|b1": np.dtype(np.bool_)}
_N_IDENTITY_BYTES: Final = 16

Size = Annotated[int, Meta(ge=0, le=1 << 31)]


class RankServerError(MillraceError):
    """A rank server cannot be reached, or failed at what it was asked."""


class Array(Struct, frozen=True, array_like=True):
    """One array, C order, little-endian.

    Attributes
    ----------
    dtype
        As NumPy names it.
    shape
        Its sizes.
    data
        Its bytes.
    """

    dtype: Literal["<f4", "|b1"]
    shape: tuple[Size, ...]
    data: memoryview


class ViewersMessage(Struct, frozen=True, array_like=True):
    """`Viewers`."""

    profile: Array
    history: Array
    mask: Array


class EncodedMessage(Struct, frozen=True, array_like=True):
    """`EncodedViewers`."""

    keys: Array
    values: Array
    mask: Array


class DescribeRequest(Struct, frozen=True):
    """Asks for one model, or with an empty ``identity`` for what serves everybody."""

    wire: int
    identity: str = ""


class Description(Struct, frozen=True):
    """What a model is.

    Attributes
    ----------
    wire
        Version of the messages.
    identity
        Sum of the model's files.
    name
        Its version in the registry or its folder, for people.
    config
        The ranker's.
    """

    wire: int
    identity: str
    name: str
    config: RankerConfig


class EncodeRequest(Struct, frozen=True):
    """Asks for encoded viewers."""

    wire: int
    identity: str
    viewers: ViewersMessage


class ScoreRequest(Struct, frozen=True):
    """Asks for predictions: for encoded viewers, for viewers, or for those that the server keeps under a key."""

    wire: int
    identity: str
    candidates: Array
    encoded: EncodedMessage | None = None
    viewers: ViewersMessage | None = None
    key: bytes = b""


class Fault(Struct, frozen=True):
    """An error of ours on its way to the client; ``kind`` is unknown_viewers where viewers have to be sent again."""

    kind: str
    thing: str
    value: str | None
    problem: str
    remedy: str


_ERRORS: Final[dict[str, type[MillraceError]]] = {
    error.__name__: error for error in (SchemaError, NotReadyError, DeadlineExceeded, ConfigError)
}
UNKNOWN_VIEWERS: Final = "unknown_viewers"

T = TypeVar("T")


def packed(message: Struct) -> bytes:
    """Return a message as bytes."""
    return msgspec.msgpack.encode(message)


def unpacked(data: bytes, kind: type[T]) -> T:
    """Return the message that bytes hold.

    Raises
    ------
    SchemaError
        If they hold another one, or one of another version of the wire.
    """
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SchemaError(
            "rank message",
            value=kind.__name__,
            problem=f"cannot be read ({error})",
            remedy="run client and rank server in the same version of Millrace",
        ) from error
    wire = getattr(message, "wire", WIRE_VERSION)
    if wire != WIRE_VERSION:
        raise SchemaError(
            "rank message's version",
            value=wire,
            problem=f"is not {WIRE_VERSION}, which this side speaks",
            remedy="run client and rank server in the same version of Millrace",
        )
    return message


def as_message(array: npt.NDArray[Any]) -> Array:
    """Return an array as it travels; its bytes are copied only if they have to be."""
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return Array(plain.dtype.str, plain.shape, memoryview(plain.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]


def as_array(thing: str, message: Array) -> npt.NDArray[Any]:
    """Return the array of a message, read-only and aligned.

    Raises
    ------
    SchemaError
        If its bytes do not fill its shape.
    """
    dtype = _DTYPES[message.dtype]
    n_bytes = math.prod(message.shape) * dtype.itemsize
    if n_bytes != message.data.nbytes:
        raise SchemaError(
            thing,
            value=f"{message.data.nbytes} bytes",
            problem=f"do not fill shape {message.shape} of {dtype.name}, which takes {n_bytes}",
            remedy="send arrays as millrace.inference.rank_wire.as_message does",
        )
    # A copy: in the message the floats begin at any byte, and runtimes want theirs aligned.
    return np.frombuffer(bytes(message.data), dtype=dtype).reshape(message.shape)


def viewers_message(viewers: Viewers) -> ViewersMessage:
    """Return viewers as they travel."""
    return ViewersMessage(*(as_message(array) for array in viewers))


def viewers_of(message: ViewersMessage) -> Viewers:
    """Return the viewers of a message; shapes are the caller's to check (`check_viewers`)."""
    return Viewers(
        as_array("profile", message.profile),
        as_array("history", message.history),
        as_array("viewers' mask", message.mask),
    )


def encoded_message(encoded: EncodedViewers) -> EncodedMessage:
    """Return encoded viewers as they travel."""
    return EncodedMessage(as_message(encoded.keys), as_message(encoded.values), as_message(encoded.mask))


def encoded_of(message: EncodedMessage) -> EncodedViewers:
    """Return the encoded viewers of a message; shapes are the caller's to check (`check_candidates`)."""
    return EncodedViewers(
        as_array("encoded viewers' keys", message.keys),
        as_array("encoded viewers' values", message.values),
        as_array("encoded viewers' mask", message.mask),
    )


def predictions_of(data: bytes, shape: tuple[int, int, int]) -> Float32Array:
    """Return the predictions of an answer.

    Raises
    ------
    SchemaError
        If they are not of that shape, or not floats.
    """
    predictions = as_array("predictions", unpacked(data, Array))
    if predictions.shape != shape or predictions.dtype != np.float32:
        raise SchemaError(
            "predictions of the rank server",
            value=f"{predictions.dtype} {predictions.shape}",
            problem=f"are not float32 {shape}",
            remedy="run client and rank server in the same version of Millrace",
        )
    return predictions


def fault_of(error: Exception) -> Fault:
    """Return an error as it travels."""
    if isinstance(error, MillraceError):
        value = None if error.value is None else str(error.value)
        return Fault(type(error).__name__, error.thing, value, error.problem, error.remedy)
    return Fault(
        type(error).__name__, "rank server", None, f"failed with {type(error).__name__}", "see the rank server's log"
    )


def error_of(fault: Fault) -> MillraceError:
    """Return the error that a fault tells of, of the same kind where the kind is one of these."""
    kind = _ERRORS.get(fault.kind, RankServerError)
    return kind(fault.thing, value=fault.value, problem=fault.problem, remedy=fault.remedy)


def ranker_identity(folder: Path) -> str:
    """Return the sum of a served ranker's files, the same wherever they were copied to; a manifest does not count.

    Raises
    ------
    ConfigError
        If the folder holds none, or one cannot be read.
    """
    digest = hashlib.blake2b(digest_size=_N_IDENTITY_BYTES)
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != _MANIFEST)
        for path in paths:
            with path.open("rb") as file:
                one = hashlib.file_digest(file, hashlib.blake2b)
            digest.update(path.name.encode() + b"\0" + one.digest())
    except OSError as error:
        raise ConfigError(
            "ranker", value=str(folder), problem=str(error.strerror or error), remedy="name an exported ranker's folder"
        ) from error
    if not paths:
        raise ConfigError(
            "ranker", value=str(folder), problem="holds no files", remedy="name an exported ranker's folder"
        )
    return digest.hexdigest()
