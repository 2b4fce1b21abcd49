"""gRPC, which is installed on demand: imported here alone, with an error that says how to get it."""

from __future__ import annotations

from typing import Any, Final

from millrace.base.errors import ConfigError
from millrace.inference.rank_wire import MAX_MESSAGE_BYTES

try:
    import grpc
    import grpc.aio
except ImportError as error:
    raise ConfigError(
        "package grpcio",
        problem=f"cannot be imported ({error})",
        remedy="install it: pip install -e '.[grpc]'",
    ) from error

OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]
"""What client and server share."""

__all__ = ["OPTIONS", "grpc"]
