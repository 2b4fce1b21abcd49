"""Viewers' tokens: whose they are, and everything that is none of ours."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest

from millrace.app.tokens import AUDIENCE, ViewerTokens
from millrace.base.clock import ManualClock, SystemClock
from millrace.base.errors import SchemaError, UnauthenticatedError

KEY = b"k" * 32
FAR_S = 4_000_000_000
TOKENS = ViewerTokens(KEY)


def signed(key: bytes = KEY, algorithm: str = "HS256", **changes: Any) -> str:
    claims = {"sub": "vic", "aud": AUDIENCE, "exp": FAR_S, **changes}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm=algorithm)


def raw(header: object, claims: object, signature: str = "") -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), signature])


@pytest.mark.parametrize("viewer", ["vic", "42", "Ünïcode 人", "mr_admin_x", "a" * 128])
def test_a_token_says_whose_it_is(viewer: str) -> None:
    assert TOKENS.viewer_of(TOKENS.make(viewer, 60)) == viewer


def test_an_id_is_one_id_in_every_form() -> None:
    assert TOKENS.viewer_of(TOKENS.make("e\N{COMBINING ACUTE ACCENT}", 60)) == "\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.mark.parametrize("viewer", ["", "x" * 129, "a\nb"])
def test_nobody_gets_a_token_under_a_name_that_cannot_be_an_id(viewer: str) -> None:
    with pytest.raises(SchemaError, match="viewer id"):
        TOKENS.make(viewer, 60)


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("", "neither"),
        ("nonsense", "neither"),
        ("a.b.c", "neither"),
        ("\xff.\xff.\xff", "neither"),
        ("a" * 5_000, "5000 characters long"),
        (f"{signed(sub='bob').rpartition('.')[0]}.{signed().rpartition('.')[2]}", "not signed by this server's key"),
        (signed(b"other" * 7), "not signed by this server's key"),
        (signed(algorithm="HS512", key=KEY * 2), "not signed by this server's key"),
        (raw({"alg": "none", "typ": "JWT"}, {"sub": "vic", "aud": AUDIENCE, "exp": FAR_S}), "not signed by"),
        (raw({"alg": "HS256"}, ["vic"], "AAAA"), "not signed by"),
        (signed(aud="other"), "not for audience 'millrace'"),
        (signed(aud=None), "names no 'aud'"),
        (signed(exp=None), "names no 'exp'"),
        (signed(sub=None), "names no 'sub'"),
        (signed(exp=1), "has expired"),
        (signed(exp="soon"), "neither"),
        (signed(exp=float("inf")), "neither"),
        (signed(nbf=FAR_S), "neither"),
        (signed(sub=""), "neither"),
        (signed(sub="a\0b"), "neither"),
        (signed(sub="x" * 200), "neither"),
    ],
)
def test_what_is_no_token_of_ours_is_refused_with_the_reason(token: str, problem: str) -> None:
    with pytest.raises(UnauthenticatedError, match=problem):
        TOKENS.viewer_of(token)


def test_expiry_is_real_time_with_some_patience_for_other_clocks() -> None:
    now_ms = SystemClock().now_ms()
    just_expired = ViewerTokens(KEY, clock=ManualClock(now_ms - 70_000)).make("vic", 60)
    with pytest.raises(UnauthenticatedError, match="expired"):
        TOKENS.viewer_of(just_expired)
    assert ViewerTokens(KEY, clock_skew_s=60).viewer_of(just_expired) == "vic"


def test_a_token_made_by_a_clock_that_is_ahead_is_good() -> None:
    ahead = ManualClock(SystemClock().now_ms() + 3_600_000)
    assert TOKENS.viewer_of(ViewerTokens(KEY, clock=ahead).make("vic", 60)) == "vic"
