"""A header that asks for a lane: who may see which versions, until when, signed in the home's name.

A sandbox serves versions that nobody else gets, so a request cannot just name it: the header carries the lane, its
end and a signature over both and the viewer. Expiry is real time, as that of tokens.

The value is ``LANE.EXPIRES_MS.SIGNATURE``; the signature is HMAC-BLAKE2b (RFC 2104 over RFC 7693), cut to 256 bits.
"""

from __future__ import annotations

import hmac
from typing import Final

import msgspec

from millrace.base.clock import Clock
from millrace.base.errors import ForbiddenError, SchemaError, UnauthenticatedError
from millrace.base.ids import normalise_id
from millrace.registry.pointer import DEFAULT_LANE, check_lane

LANE_HEADER: Final = "x-millrace-lane"
PURPOSE: Final = "model lanes"
"""Of the key, for `millrace.app.secret.subkey`."""

_SIGNATURE_BYTES: Final = 32
_MAX_CHARS: Final = 256
_REMEDY: Final = "ask the operator for a new one (`millrace models sign LANE VIEWER`)"


def sign_lane(lane: str, viewer: str, expires_ms: int, key: bytes) -> str:
    """Return the header's value with which a viewer asks for a lane until ``expires_ms`` (epoch milliseconds).

    Raises
    ------
    RegistryError
        If the lane cannot be one.
    SchemaError
        If the viewer's id cannot be used.
    """
    check_lane(lane)
    viewer = normalise_id(viewer, "viewer id")
    return f"{lane}.{expires_ms}.{_signature(lane, viewer, expires_ms, key)}"


def verify_lane(value: str, viewer: str, now_ms: int, key: bytes) -> str:
    """Return the lane that a header's value asks for.

    Parameters
    ----------
    value
        As sent.
    viewer
        Who asks, from the token.
    now_ms
        Real time, epoch milliseconds.
    key
        As it was signed with.

    Raises
    ------
    UnauthenticatedError
        If it is not one of ours, or is over.
    ForbiddenError
        If it is another viewer's: nothing in it says whose, so any change of it looks the same.
    """
    lane, _, rest = value.rpartition(".")[0].rpartition(".")
    signature = value.rpartition(".")[2]
    if len(value) > _MAX_CHARS or not lane or not rest.isascii() or not rest.isdigit():
        raise UnauthenticatedError(f"header {LANE_HEADER}", problem="is none of ours", remedy=_REMEDY)
    expires_ms = int(rest)
    try:
        expected = _signature(lane, normalise_id(viewer, "viewer id"), expires_ms, key)
    except SchemaError:
        expected = ""
    # As bytes: text that is not ASCII cannot be compared.
    if not expected or not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
        raise ForbiddenError(
            f"header {LANE_HEADER}", problem="is not signed by this server for this viewer", remedy=_REMEDY
        )
    if now_ms >= expires_ms:
        raise UnauthenticatedError(f"header {LANE_HEADER}", problem="has expired", remedy=_REMEDY)
    return lane


def request_lane(value: str | None, viewer: str, now_ms: int, key: bytes) -> str:
    """Return the lane of a request: the default one where it has no such header; see `verify_lane`."""
    return DEFAULT_LANE if value is None else verify_lane(value, viewer, now_ms, key)


class LaneReader:
    """Tells the lane that a request asks for.

    Parameters
    ----------
    key
        As lanes are signed with.
    clock
        Real time.
    """

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def lane(self, value: str | None, viewer: str) -> str:
        """Return the lane of a header's value, the default one where there is none; see `verify_lane`."""
        return request_lane(value, viewer, self._clock.now_ms(), self._key)


def _signature(lane: str, viewer: str, expires_ms: int, key: bytes) -> str:
    # JSON keeps the parts apart: no two triples give one message.
    message = msgspec.json.encode([PURPOSE, lane, viewer, expires_ms])
    return hmac.digest(key, message, "blake2b")[:_SIGNATURE_BYTES].hex()
