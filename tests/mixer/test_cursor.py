"""Cursors: opaque, signed, for one viewer and one timeline."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.base.errors import SchemaError
from millrace.features.query_fields import BEGINNING, Boundary
from millrace.mixer.cursor import MAX_CURSOR_CHARS, Cursor, CursorCodec

INT64 = st.integers(-(2**63), 2**63 - 1)
codec = CursorCodec(b"k" * 32)
cursors = st.builds(
    Cursor,
    timeline=st.sampled_from(["home", "following"]),
    viewer_id=INT64,
    chain=INT64,
    number=st.integers(0, 2**32 - 1),
    boundary=st.builds(Boundary, INT64, INT64, INT64, INT64),
)


@given(cursor=cursors)
def test_a_cursor_comes_back_as_it_went(cursor: Cursor) -> None:
    text = codec.encode(cursor)
    assert codec.decode(text, cursor.timeline, cursor.viewer_id) == cursor
    assert len(text) <= MAX_CURSOR_CHARS
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(cursor=cursors, place=st.integers(0, 10**6), change=st.integers(1, 255))
def test_a_cursor_that_was_changed_in_any_place_is_refused(cursor: Cursor, place: int, change: int) -> None:
    text = codec.encode(cursor)
    data = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    data[place % len(data)] ^= change
    changed = base64.urlsafe_b64encode(data).decode().rstrip("=")
    with pytest.raises(SchemaError, match="not a cursor that this server gave out"):
        codec.decode(changed, cursor.timeline, cursor.viewer_id)


@given(text=st.text(max_size=300))
def test_any_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(SchemaError, match="cursor"):
        codec.decode(text, "home", 1)


def test_a_cursor_of_another_viewer_timeline_or_installation_is_refused() -> None:
    text = codec.encode(Cursor("home", 1, 2, 3))
    with pytest.raises(SchemaError, match=r"given out to another viewer.*none for the first page"):
        codec.decode(text, "home", 2)
    with pytest.raises(SchemaError, match="for the following timeline"):
        codec.decode(text, "following", 1)
    with pytest.raises(SchemaError, match="not a cursor that this server gave out"):
        CursorCodec(b"x" * 32).decode(text, "home", 1)


def test_there_is_one_text_for_a_cursor() -> None:
    text = codec.encode(Cursor("home", 1, 2, 3))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = letters[letters.index(text[-1]) ^ 1]  # differs in a bit that carries nothing, if there is one
    for other in (text + "=", text + "\n", " " + text, text[:-1] + spare):
        with pytest.raises(SchemaError):
            codec.decode(other, "home", 1)


def test_the_next_page_has_the_next_number_and_never_one_too_large() -> None:
    assert Cursor("home", 1, 2, 3).next(BEGINNING) == Cursor("home", 1, 2, 4)
    last = Cursor("home", 1, 2, 2**32 - 1)
    assert codec.decode(codec.encode(last.next(BEGINNING)), "home", 1) == last
