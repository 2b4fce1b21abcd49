"""How a body of events is cut into events: a JSON array, one JSON object, or NDJSON."""

from __future__ import annotations

import msgspec

from millrace.base.errors import SchemaError
from millrace.stream.collector import ndjson_lines

_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_ONE = msgspec.json.Decoder(msgspec.Raw)


def split_events(body: bytes) -> list[bytes]:
    """Return the JSON text of each event of a body, in order.

    A body that begins with ``[`` is a JSON array and valid as a whole or refused as a whole. Any other is one
    JSON object, or NDJSON, where a bad line is refused by itself; blank lines are skipped.

    Raises
    ------
    SchemaError
        If an array is not valid JSON.
    """
    text = body.lstrip()
    if text.startswith(b"["):
        try:
            return [bytes(raw) for raw in _RAW_LIST.decode(text)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SchemaError(
                "request body",
                value=body[:60],
                problem=f"not a valid JSON array as a whole ({error}), so none of its events was taken",
                remedy="correct it, or send NDJSON (one event a line), where a bad line is refused by itself",
            ) from error
    if b"\n" in text.rstrip():
        try:
            return [bytes(_RAW_ONE.decode(text))]  # one object over many lines
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return ndjson_lines(text)
