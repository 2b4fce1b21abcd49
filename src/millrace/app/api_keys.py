"""API keys of producers and operators: ``keys.json`` in the home holds names, roles and hashes, never a key.

A key is 256 random bits, so one fast hash keeps it as well as a slow one would. Every process reads the file again as
soon as it has changed: a key that was removed opens nothing from then on.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from millrace.base.errors import ConfigError, NotReadyError

PREFIX: Final = "mr_"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RANDOM_BYTES: Final = 32

KeyRole = Literal["ingest", "admin"]


class ApiKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a key.

    Attributes
    ----------
    name
        Who uses it.
    role
        ingest sends events; admin may do everything.
    hash
        BLAKE2b-256 of the key, in hexadecimal.
    created_at_ms
        When it was made.
    """

    name: str
    role: KeyRole
    hash: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    created_at_ms: int


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()


class ApiKeys:
    """The keys of one home; any number of processes may read and change them.

    Parameters
    ----------
    path
        The file; where there is none, there are no keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._keys: tuple[ApiKey, ...] = ()

    def all(self) -> tuple[ApiKey, ...]:
        """Return what is known of every key, as the file says now.

        Raises
        ------
        ConfigError
            If the file cannot be read.
        """
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._stamp:
                self._keys = msgspec.json.decode(self._path.read_bytes(), type=_File).keys
                self._stamp = stamp
        except FileNotFoundError:
            self._stamp, self._keys = (), ()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                "API keys",
                value=str(self._path),
                problem=f"cannot be read ({error})",
                remedy="mend the file or its permissions; or remove it and make new keys: `millrace keys add`",
            ) from error
        return self._keys

    def find(self, key: str) -> ApiKey | None:
        """Return whose key this is; None if nobody's.

        Raises
        ------
        NotReadyError
            If the file cannot be read: nobody is let in then.
        """
        try:
            known = self.all()
        except ConfigError as error:
            raise NotReadyError(
                "API keys", problem="cannot be read", remedy="tell the operator: `millrace doctor` says more"
            ) from error
        wanted, found = hash_of(key), None
        for candidate in known:  # to the end, whichever it is: how long it takes tells nothing
            if hmac.compare_digest(candidate.hash, wanted):
                found = candidate
        return found

    def add(self, name: str, role: KeyRole, created_at_ms: int) -> str:
        """Make a key and return it; it cannot be had again.

        Raises
        ------
        ConfigError
            If the name is taken, or cannot be one.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                "key name",
                value=name,
                problem="not a name",
                remedy="use up to 64 of a-z, A-Z, 0-9, '.', '_', '-', beginning with a letter or a digit",
            )
        key = f"{PREFIX}{role}_{secrets.token_urlsafe(_RANDOM_BYTES)}"
        with self._alone():
            known = self.all()
            if any(other.name == name for other in known):
                raise ConfigError(
                    "key name",
                    value=name,
                    problem="there is a key of that name",
                    remedy=f"choose another, or remove that one first: `millrace keys remove {name}`",
                )
            made = ApiKey(name=name, role=role, hash=hash_of(key), created_at_ms=created_at_ms)
            self._write((*known, made))
        return key

    def remove(self, name: str) -> None:
        """Remove a key; whoever uses it is refused from now on.

        Raises
        ------
        ConfigError
            If there is none of that name.
        """
        with self._alone():
            known = self.all()
            kept = tuple(key for key in known if key.name != name)
            if len(kept) == len(known):
                raise ConfigError(
                    "key name", value=name, problem="there is no key of that name", remedy="see `millrace keys list`"
                )
            self._write(kept)

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_File(keys=keys)), indent=2)
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)  # of a process of that number that was killed
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from changing the file meanwhile."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def hash_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.blake2b(key.encode(errors="replace"), digest_size=32).hexdigest()
