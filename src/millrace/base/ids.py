"""Ids: opaque strings outside, int64 inside.

Outside, JSON ``42`` and ``"42"`` are one id; text is NFC, 1 to 128 bytes of UTF-8. Inside, an id is the
BLAKE2b-64 hash of its kind and text: equal on every machine, with no dictionary to share. 0 means "none".

Two texts of one kind may share a hash: among n ids with a chance of about n ** 2 / 2 ** 65, one in 37,000 for 32
million posts. The state, which keeps hashes alone, cannot tell them apart and takes them for one post or user (of two
posts, the one that was created first stands). Only the content store knows the texts: it refuses the second, which is
therefore never shown under the name or with the text of the first (`millrace.stores.content_store`).
"""

from __future__ import annotations

import enum
import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace.base.errors import SchemaError

NO_ID: Final = 0
MAX_ID_BYTES: Final = 128

Int64Array = npt.NDArray[np.int64]


class IdKind(enum.Enum):
    """Namespaces of ids: the same text names a user and a post without their ids being equal."""

    USER = b"user"
    POST = b"post"
    LIST = b"list"
    EVENT = b"event"
    REQUEST = b"request"

    __hash__ = object.__hash__  # Enum's own is a Python call; this is a key in the hottest look-up there is


def normalise_id(raw: object, thing: str = "id") -> str:
    """Return the canonical text of an outside id.

    Raises
    ------
    SchemaError
        If ``raw`` is neither text nor a whole number, is empty, too long, or holds control characters.
    """
    if type(raw) is int:
        return str(raw)
    if type(raw) is not str:
        raise SchemaError(thing, value=raw, problem="not text or a whole number", remedy="send it as JSON text")
    text = raw if raw.isascii() else unicodedata.normalize("NFC", raw)
    try:
        n_bytes = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise SchemaError(
            thing, value=raw, problem="not valid Unicode text", remedy="send UTF-8 without lone surrogates"
        ) from None
    if not 1 <= n_bytes <= MAX_ID_BYTES:
        raise SchemaError(
            thing,
            value=raw,
            problem=f"{n_bytes} bytes long",
            remedy=f"use 1 to {MAX_ID_BYTES} bytes of UTF-8",
        )
    if not text.isprintable():
        raise SchemaError(thing, value=raw, problem="holds control characters", remedy="use printable characters only")
    return text


def hash_id(kind: IdKind, text: str) -> int:
    """Return the inside id of ``text``: BLAKE2b-64 over kind and text, as a signed int64, never 0."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=kind.value).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


class IdHasher:
    """Hashes ids with a bounded memory of the ones seen before.

    A feed sees the same users and posts again and again; a dictionary hit costs a tenth of a hash. The memory
    is emptied when it is full, so its size is bounded and the result never depends on it.
    """

    def __init__(self, max_entries: int = 500_000) -> None:
        self._max_entries = max_entries
        self._known: dict[IdKind, dict[str, int]] = {kind: {} for kind in IdKind}

    def one(self, kind: IdKind, text: str) -> int:
        """Return the inside id of one text; the empty text is "none" (0)."""
        if not text:
            return NO_ID
        known = self._known[kind]
        found = known.get(text)
        if found is None:
            if len(known) >= self._max_entries:
                known.clear()
            found = known[text] = hash_id(kind, text)
        return found

    def memory(self, kind: IdKind) -> Mapping[str, int]:
        """Return what is remembered of a kind: ``memory(kind).get(text) or one(kind, text)`` saves a call."""
        return self._known[kind]

    def many(self, kind: IdKind, texts: Iterable[str]) -> Int64Array:
        """Return the inside ids of many texts, shape (n,); empty texts become 0."""
        known = self._known[kind]
        get = known.get
        return np.array([get(text) or self.one(kind, text) for text in texts], dtype=np.int64)

    def users(self, texts: Iterable[str]) -> Int64Array:
        """Return the inside ids of user texts, shape (n,)."""
        return self.many(IdKind.USER, texts)

    def posts(self, texts: Iterable[str]) -> Int64Array:
        """Return the inside ids of post texts, shape (n,)."""
        return self.many(IdKind.POST, texts)
