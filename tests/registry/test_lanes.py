"""The header that asks for a lane: what opens it and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.base.errors import AccessError, ForbiddenError, SchemaError, UnauthenticatedError
from millrace.registry.errors import RegistryError
from millrace.registry.lanes import request_lane, sign_lane, verify_lane

KEY = b"k" * 32
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


def test_the_signed_lane_is_served_until_its_end() -> None:
    value = sign_lane("sandbox", "vic", 1_000, KEY)
    assert verify_lane(value, "vic", 999, KEY) == request_lane(value, "vic", 0, KEY) == "sandbox"
    with pytest.raises(UnauthenticatedError, match="has expired; ask the operator"):
        verify_lane(value, "vic", 1_000, KEY)


def test_without_the_header_everybody_gets_the_default() -> None:
    assert request_lane(None, "vic", 0, KEY) == "default"


@given(names, st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20))
def test_any_lane_and_viewer_can_be_signed(lane: str, viewer: str) -> None:
    assert verify_lane(sign_lane(lane, viewer, 2**53, KEY), viewer, 2**53 - 1, KEY) == lane


def test_it_is_of_one_viewer_one_key_one_lane_and_one_end() -> None:
    value = sign_lane("sandbox", "vic", 1_000, KEY)
    signature = value.rpartition(".")[2]
    for tried, viewer, key in [
        (value, "ada", KEY),
        (value, "", KEY),
        (value, "vic", b"other" * 8),
        (f"other.1000.{signature}", "vic", KEY),
        (f"sandbox.2000.{signature}", "vic", KEY),
        (f"sandbox.1000.{signature[:-1]}", "vic", KEY),
        (f"sandbox.1000.{signature}0", "vic", KEY),
        ("sandbox.1000.", "vic", KEY),
        ("sandbox.1000.ä€\udc80", "vic", KEY),
    ]:
        with pytest.raises(ForbiddenError, match="is not signed by this server for this viewer"):
            verify_lane(tried, viewer, 0, key)


@pytest.mark.parametrize(
    "value", ["", "sandbox", "a.b", ".1.x", "sandbox.-1.x", "sandbox.¹.x", "sandbox.1e9.x", "x" * 300]
)
def test_what_is_none_of_ours_is_refused(value: str) -> None:
    with pytest.raises(UnauthenticatedError, match="is none of ours"):
        verify_lane(value, "vic", 0, KEY)


@given(st.text(max_size=300), st.text(max_size=30))
def test_whatever_is_sent_is_refused_as_access(value: str, viewer: str) -> None:
    with pytest.raises(AccessError):
        verify_lane(value, viewer, 0, KEY)


def test_every_changed_character_is_noticed() -> None:
    value = sign_lane("sandbox", "vic", 1_000, KEY)
    for i, character in enumerate(value):
        changed = value[:i] + ("1" if character != "1" else "2") + value[i + 1 :]
        with pytest.raises(AccessError):
            verify_lane(changed, "vic", 0, KEY)


def test_only_lanes_and_viewers_that_can_be_are_signed() -> None:
    with pytest.raises(RegistryError, match="not a name"):
        sign_lane("a b", "vic", 1, KEY)
    with pytest.raises(SchemaError):
        sign_lane("sandbox", "", 1, KEY)
