"""Which addresses the server may bind to: in development mode, only this machine's own."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.app.settings import MillraceConfig


def check_address(config: MillraceConfig) -> None:
    """Refuse to bind where others can reach us, unless callers have to say who they are.

    Raises
    ------
    ConfigError
        If the address is not a loopback address, in development mode.
    """
    host = config.server.host
    if config.auth.mode == "development" and not is_loopback(host):
        raise ConfigError(
            "config key server.host",
            value=host,
            problem="reachable from other machines, and development mode, without tokens, binds to loopback only",
            remedy='use 127.0.0.1, or set auth.mode = "tokens" (docs/http.md)',
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine only."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_loopback_host(header: str) -> bool:
    """Whether a ``Host`` header, or an address with or without a port, names this machine only."""
    try:
        return is_loopback(urlsplit(f"//{header}").hostname or "")
    except ValueError:  # brackets that hold no address
        return False
