"""Development mode answers this machine only."""

from __future__ import annotations

import pytest

from millrace.app.http_address import check_loopback, is_loopback
from millrace.base.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_addresses_are_fine(host: str) -> None:
    assert is_loopback(host)
    check_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", "localhost.example.org", ""])
def test_others_are_refused_with_the_remedy(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match=r"server\.host .* loopback only; use 127\.0\.0\.1; tokens come"):
        check_loopback(host)
