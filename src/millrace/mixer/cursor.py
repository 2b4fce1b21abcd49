"""Cursors: where the next page of a timeline begins, as opaque text that only this installation can have written."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from typing import Final, NamedTuple

from millrace.base.errors import SchemaError
from millrace.features.query_fields import BEGINNING, Boundary

MAX_CURSOR_CHARS: Final = 256
_VERSION: Final = 1
_SIGNATURE_BYTES: Final = 16
# version, viewer, chain, page number, boundary; the timeline is signed, not carried.
_LAYOUT: Final = struct.Struct("<BqqI4q")
_MAX_NUMBER: Final = 2**32 - 1


class Cursor(NamedTuple):
    """A place in one viewer's timeline.

    Attributes
    ----------
    timeline, viewer_id
        Whose page of what.
    chain
        The scroll it belongs to: all pages that were asked for one after the other share it.
    number
        Of the page in its chain; the first is 0.
    boundary
        For chronological timelines: what lies behind.
    """

    timeline: str
    viewer_id: int
    chain: int
    number: int
    boundary: Boundary = BEGINNING

    def next(self, boundary: Boundary) -> Cursor:
        """Return the place of the page after this one."""
        return self._replace(number=min(self.number + 1, _MAX_NUMBER), boundary=boundary)


class CursorCodec:
    """Writes and reads cursors: URL-safe base64 without padding, signed with a truncated HMAC-SHA256.

    Parameters
    ----------
    key
        Secret, and the same in every process that serves the viewer.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, cursor: Cursor) -> str:
        """Return a cursor as text."""
        data = _LAYOUT.pack(_VERSION, cursor.viewer_id, cursor.chain, cursor.number, *cursor.boundary)
        signed = data + self._signature(cursor.timeline, data)
        return base64.urlsafe_b64encode(signed).rstrip(b"=").decode("ascii")

    def decode(self, text: str, timeline: str, viewer_id: int) -> Cursor:
        """Return what a cursor says.

        Raises
        ------
        SchemaError
            If it was not given out here, or for another viewer or timeline.
        """
        data = _bytes_of(text)
        if len(data) != _LAYOUT.size + _SIGNATURE_BYTES:
            raise _refused(text, "not a cursor that this server gave out")
        data, signature = data[: _LAYOUT.size], data[_LAYOUT.size :]
        if not hmac.compare_digest(signature, self._signature(timeline, data)):
            raise _refused(text, f"not a cursor that this server gave out for the {timeline} timeline")
        version, owner, chain, number, *boundary = _LAYOUT.unpack(data)
        if version != _VERSION:
            raise _refused(text, "of another version")
        if owner != viewer_id:
            raise _refused(text, "given out to another viewer")
        return Cursor(timeline, owner, chain, number, Boundary(*boundary))

    def _signature(self, timeline: str, data: bytes) -> bytes:
        return hmac.digest(self._key, timeline.encode() + b"\0" + data, hashlib.sha256)[:_SIGNATURE_BYTES]


def _bytes_of(text: str) -> bytes:
    if len(text) > MAX_CURSOR_CHARS or not text.isascii():
        return b""
    padded = text + "=" * (-len(text) % 4)
    try:
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    # One text per cursor: base64 has unused bits, and texts that differ in them would be two keys to one page.
    return data if base64.urlsafe_b64encode(data).decode().rstrip("=") == text else b""


def _refused(text: str, problem: str) -> SchemaError:
    return SchemaError(
        "cursor", value=text, problem=problem, remedy="send a cursor as it stood in a page, or none for the first page"
    )
