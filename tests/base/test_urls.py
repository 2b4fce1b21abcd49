"""Passwords in URLs are not for others to see."""

from __future__ import annotations

import pytest

from millrace.base.urls import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hush@host:1/2", "redis://***@host:1/2"),
        ("rediss://me:hush@[::1]:1/2", "rediss://***@[::1]:1/2"),
        ("redis://host/0?password=hush&db=1", "redis://host/0?***"),
        ("redis://:a@b@host/0", "redis://***@host/0"),
        ("redis://:hu/sh@host:1/0", "redis://***@host:1/0"),
        ("redis://:hu#s?h@host:1/0", "redis://***@host:1/0"),
        ("unix://me:hush@/run/redis.sock?db=0", "unix://***@/run/redis.sock?***"),
        ("no url: a@b", "no url: a@b"),
        ("", ""),
    ],
)
def test_what_a_url_may_show(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
