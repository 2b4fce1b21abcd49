"""Development mode answers this machine only."""

from __future__ import annotations

from typing import Literal

import pytest

from millrace.app.config import AuthConfig, ServerConfig
from millrace.app.http_address import check_address, is_loopback, is_loopback_host
from millrace.app.settings import MillraceConfig
from millrace.base.errors import ConfigError


def config(host: str, mode: Literal["development", "tokens"] = "development") -> MillraceConfig:
    return MillraceConfig(server=ServerConfig(host=host), auth=AuthConfig(mode=mode))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_addresses_are_fine(host: str) -> None:
    assert is_loopback(host)
    check_address(config(host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", "localhost.example.org", " "])
def test_others_are_refused_with_the_remedy(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match=r"server\.host .* loopback only; use 127\.0\.0\.1, or set auth\.mode"):
        check_address(config(host))


def test_in_tokens_mode_every_address_is_fine() -> None:
    check_address(config("0.0.0.0", mode="tokens"))


@pytest.mark.parametrize(
    ("header", "is_ours"),
    [
        ("127.0.0.1:8000", True),
        ("localhost", True),
        ("[::1]:8000", True),
        ("example.org:80", False),
        ("[127.0.0.1", False),
        ("", False),
    ],
)
def test_host_headers_are_read_with_and_without_a_port(header: str, is_ours: bool) -> None:
    assert is_loopback_host(header) is is_ours
