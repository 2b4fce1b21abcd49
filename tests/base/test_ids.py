"""Ids: one canonical text outside, one int64 inside."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import SchemaError
from millrace.base.ids import MAX_ID_BYTES, NO_ID, IdHasher, IdKind, hash_id, normalise_id

texts = st.text(min_size=1, max_size=30).filter(str.isprintable)


def test_the_number_42_and_the_text_42_are_one_id() -> None:
    assert normalise_id(42) == normalise_id("42") == "42"


def test_composed_and_decomposed_text_are_one_id() -> None:
    assert normalise_id("e\u0301te\u0301") == normalise_id("\u00e9t\u00e9") == "été"


@pytest.mark.parametrize("raw", [True, None, 1.5, b"x", ["x"], {}])
def test_what_is_neither_text_nor_a_whole_number_is_refused(raw: object) -> None:
    with pytest.raises(SchemaError, match="not text or a whole number"):
        normalise_id(raw)


@pytest.mark.parametrize("raw", ["", "x" * (MAX_ID_BYTES + 1), "語" * 43])
def test_an_id_has_1_to_128_bytes_of_utf_8(raw: str) -> None:
    with pytest.raises(SchemaError, match="bytes long"):
        normalise_id(raw)


def test_128_bytes_are_allowed() -> None:
    assert normalise_id("x" * MAX_ID_BYTES) == "x" * MAX_ID_BYTES


@pytest.mark.parametrize("raw", ["a\nb", "a\x00", "\u200b", "\u2028"])
def test_control_characters_are_refused(raw: str) -> None:
    with pytest.raises(SchemaError, match="control characters"):
        normalise_id(raw)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(SchemaError, match="not valid Unicode"):
        normalise_id("\ud800")


def test_the_message_names_the_field_and_its_value() -> None:
    with pytest.raises(SchemaError, match=r"^author_id '': 0 bytes long; use 1 to 128"):
        normalise_id("", "author_id")


def test_inside_ids_never_change_because_checkpoints_and_models_hold_them() -> None:
    assert hash_id(IdKind.USER, "ada") == 9135430895930586336
    assert hash_id(IdKind.POST, "ada") == -66727352571770639
    assert hash_id(IdKind.POST, "東京") == 712587105627803357


@given(texts)
@settings(max_examples=50, deadline=None)
def test_the_inside_id_is_blake2b_64_over_kind_and_text(text: str) -> None:
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"post").digest()
    assert hash_id(IdKind.POST, text) == int.from_bytes(digest, "little", signed=True)


@given(texts)
@settings(max_examples=50, deadline=None)
def test_normalising_twice_changes_nothing(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    once = normalise_id(text)
    assert normalise_id(once) == once


@given(st.lists(st.text(max_size=4), max_size=60), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_the_hashers_memory_never_shows(words: list[str], max_entries: int) -> None:
    hasher = IdHasher(max_entries)
    expected = [hash_id(IdKind.USER, word) if word else NO_ID for word in words]
    assert hasher.users(words).tolist() == expected
    assert hasher.users(words).dtype == np.int64
    assert [hasher.one(IdKind.USER, word) for word in words] == expected


def test_users_and_posts_are_namespaces() -> None:
    hasher = IdHasher()
    assert hasher.users(["7"])[0] != hasher.posts(["7"])[0]


def test_no_ids_give_an_empty_array() -> None:
    assert IdHasher().posts([]).shape == (0,)
