"""Arrays in an event: a few columns as one string of bytes, small enough for a log.

::

    version (1 byte) | zlib of: length of the head (4 bytes) | head: [(name, dtype, shape), ...] as MessagePack | data

The data of the arrays follow each other as C bytes, little-endian.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError

PackedArrays = dict[str, npt.NDArray[Any]]

_VERSION: Final = 1
_LEVEL: Final = 1  # the others cost many times the CPU for a tenth of the bytes
_MAX_BYTES: Final = 64 << 20
_KINDS: Final = "biuf"

_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(list[tuple[str, str, tuple[int, ...]]]).decode


def pack_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return arrays of numbers and flags as bytes."""
    plain = {name: a.astype(a.dtype.newbyteorder("<"), copy=False) for name, a in arrays.items()}
    head = _encode_head([(name, a.dtype.str, a.shape) for name, a in plain.items()])
    parts = [len(head).to_bytes(4, "little"), head, *(a.tobytes() for a in plain.values())]
    return bytes([_VERSION]) + zlib.compress(b"".join(parts), _LEVEL)


def unpack_arrays(data: bytes) -> PackedArrays:
    """Return the arrays of `pack_arrays`, read-only.

    Raises
    ------
    SchemaError
        If the bytes are none of its, or damaged.
    """
    try:
        if data[:1] != bytes([_VERSION]):
            raise ValueError("of another version")
        inflate = zlib.decompressobj()
        plain = inflate.decompress(data[1:], _MAX_BYTES)
        if not inflate.eof:
            raise ValueError("cut short, or too large")
        n_head = int.from_bytes(plain[:4], "little")
        at = 4 + n_head
        arrays: PackedArrays = {}
        for name, kind, shape in _decode_head(plain[4:at]):
            dtype = np.dtype(kind)
            if dtype.kind not in _KINDS:
                raise ValueError(f"holds {kind}")
            n = math.prod(shape)
            arrays[name] = np.frombuffer(plain, dtype, n, at).reshape(shape)
            at += n * dtype.itemsize
    except (ValueError, TypeError, OverflowError, zlib.error, msgspec.DecodeError) as error:
        raise SchemaError(
            "packed arrays", value=data[:20], problem=f"cannot be read ({error})", remedy="leave the event out"
        ) from error
    return arrays
