"""The home's secret: 32 random bytes in ``secret.key``, made once by whoever needs them first.

Nothing is signed with the secret itself: each purpose has a key of its own, made from it. Whoever can read the file
can sign in the server's name; without it every token and cursor that was given out is void.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from typing import Final

from millrace.app.settings import Settings
from millrace.base.errors import ConfigError

SECRET_BYTES: Final = 32


def load_or_make_secret(settings: Settings) -> bytes:
    """Return the home's secret; where there is none yet, one is made. Of processes that do so at once, one wins.

    Raises
    ------
    ConfigError
        If the file cannot be read or made, or does not hold a secret.
    """
    path = settings.secret_path
    try:
        if not path.exists():
            settings.home.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(SECRET_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(draft, path)  # whole or not at all, and never over another's
            finally:
                draft.unlink()
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "secret file",
            value=str(path),
            problem=f"cannot be read or made ({error.strerror})",
            remedy="check the permissions of the file and of the home folder",
        ) from error
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            "secret file",
            value=str(path),
            problem=f"holds {len(secret)} bytes instead of {SECRET_BYTES}",
            remedy="put the right one back, or remove it: a new one is made, and all tokens and cursors become void",
        )
    return secret


def subkey(secret: bytes, purpose: str) -> bytes:
    """Return the key of one purpose, 32 bytes; keys of different purposes tell nothing about each other.

    Examples
    --------
    >>> subkey(b"s" * 32, "cursor") == subkey(b"s" * 32, "cursor") != subkey(b"s" * 32, "token")
    True
    """
    return hashlib.blake2b(purpose.encode(), key=secret, digest_size=SECRET_BYTES).digest()
