"""The home's secret: 32 random bytes in ``secret.key``, of which every signing key is derived."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import Final

from millrace.app.settings import Settings
from millrace.base.errors import ConfigError

SECRET_BYTES: Final = 32


def load_or_make_secret(settings: Settings) -> bytes:
    """Return the home's secret; the first process that asks makes it, and all get the same.

    Raises
    ------
    ConfigError
        If the file is not a secret of ours.
    """
    path = settings.secret_path
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(SECRET_BYTES))
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: of two processes that make one at a time, the first wins and both read it.
            if not path.exists():
                os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            "secret",
            value=str(path),
            problem=f"{len(secret)} bytes long instead of {SECRET_BYTES}",
            remedy="put the right file back; or remove it: a new one is made, and all tokens and cursors end",
        )
    return secret


def subkey(secret: bytes, purpose: str) -> bytes:
    """Return the key for one purpose; keys of two purposes tell nothing about each other or the secret."""
    return hashlib.blake2b(purpose.encode(), key=secret, digest_size=32).digest()
