"""How a request body is cut into events."""

from __future__ import annotations

import pytest

from millrace.app.api.body import split_events
from millrace.base.errors import SchemaError


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"", []),
        (b"[]", []),
        (b'  [ {"a": 1} , {"b": "x\\n"} ] ', [b'{"a": 1}', b'{"b": "x\\n"}']),
        (b'{"a": 1}', [b'{"a": 1}']),
        (b'{"a": 1}\n', [b'{"a": 1}']),
        (b'{"a": 1}\r\n\n{"b": 2}\n', [b'{"a": 1}', b'{"b": 2}']),
        (b'{\n "a": 1\n}\n', [b'{\n "a": 1\n}']),
        (b'{"a": 1}\nnonsense\n', [b'{"a": 1}', b"nonsense"]),
        (b"\xff\xfe", [b"\xff\xfe"]),
    ],
)
def test_arrays_objects_and_lines(body: bytes, events: list[bytes]) -> None:
    assert [event.strip() for event in split_events(body)] == events


@pytest.mark.parametrize("body", [b"[", b'[{"a": 1},]', b"[1] x", b"[\xff]"])
def test_a_broken_array_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(SchemaError, match="not a valid JSON array"):
        split_events(body)


@pytest.mark.parametrize("body", [b"[" * 200_000, b'[{"a": 1}, ' + b"[" * 200_000, b'[{"text": "\\ud800"}, {}'])
def test_an_array_that_cannot_be_read_is_refused_as_a_whole_whatever_is_wrong_with_it(body: bytes) -> None:
    with pytest.raises(SchemaError, match="send NDJSON"):
        split_events(body)


def test_a_bottomless_line_among_others_is_left_to_the_door() -> None:
    assert len(split_events(b'{"a": 1}\n' + b"[" * 200_000)) == 2
