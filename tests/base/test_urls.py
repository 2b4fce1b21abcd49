"""Passwords in URLs are not for others to see."""

from __future__ import annotations

import pytest

from millrace.base.urls import hide_secrets, without_secrets


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


@pytest.mark.parametrize(
    ("url", "said", "shown"),
    [
        ("pg://u:hush@h/d", "cannot read pg://u:hush@h/d", "cannot read pg://***@h/d"),
        ("pg://u:hu%21sh@h/d", "no such token: hu%21sh, or hu!sh", "no such token: ***, or ***"),
        ("pg://u:sec@ret@h/d", "no host 'ret@h'", "no host '***@h'"),
        ("pg://h/d?password=hush", "no parameter hush", "no parameter ***"),
        ("host=h password=hush", "bad: hush in host=h password=hush", "bad: *** in ***"),
        ("pg://u@h/d", "connection to server at h failed", "connection to server at h failed"),
    ],
)
def test_what_a_driver_says_of_a_url_is_shown_without_its_secrets(url: str, said: str, shown: str) -> None:
    assert hide_secrets(said, url) == shown
