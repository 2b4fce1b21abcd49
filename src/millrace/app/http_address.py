"""Which addresses the server may bind to: without access control, only this machine's own."""

from __future__ import annotations

import ipaddress

from millrace.base.errors import ConfigError


def check_loopback(host: str) -> None:
    """Refuse to bind where others can reach us: there is no access control yet.

    Raises
    ------
    ConfigError
        If the address is not a loopback address.
    """
    if not is_loopback(host):
        raise ConfigError(
            "config key server.host",
            value=host,
            problem="reachable from other machines, and development mode, without tokens, binds to loopback only",
            remedy="use 127.0.0.1; tokens come with a later version",
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
