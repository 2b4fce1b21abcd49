"""What an artefact is: its manifest, and what whoever trained it says of it.

The manifest holds the sum of every file and one sum over all that it says, which is also the end of the version's
name: a file that was changed, lost or added shows, and so does a change of the manifest itself.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from millrace.registry.errors import ArtefactError, RegistryError

Kind = Literal["ranker", "pre_ranker", "retrieval", "social", "semantic_ids"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
SUM_BYTES: Final = 32

_HEX_SUM: Final = "^[0-9a-f]{64}$"
_VERSION: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
_PATH_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

Sum = Annotated[str, Meta(pattern=_HEX_SUM)]
Version = Annotated[str, Meta(pattern=f"^{_VERSION.pattern}$")]


class FileEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of an artefact.

    Attributes
    ----------
    path
        Below the artefact's folder, with ``/``: ``"ranker.onnx"``, ``"tables/authors.bin"``.
    n_bytes
        Its size.
    blake2b
        BLAKE2b-256 of its bytes, in hexadecimal.
    """

    path: str
    n_bytes: Annotated[int, Meta(ge=0)]
    blake2b: Sum

    def __post_init__(self) -> None:
        if not is_file_path(self.path):
            raise ValueError(f"{self.path!r} is not the path of a file below its folder")


class Description(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What whoever trained an artefact says of it.

    Attributes
    ----------
    kind
        What it is for.
    feature_schema_hash
        Of the features that it reads; a server with others must not use it.
    from_ms, until_ms
        Training window, epoch milliseconds: from the first sample's time, up to and without ``until_ms``.
    data
        What it was trained on, for people.
    metrics
        Figures of its evaluation, finite, by name.
    settings
        Sizes and training settings: whatever JSON can say.
    """

    kind: Kind
    feature_schema_hash: str
    from_ms: int
    until_ms: int
    data: str = ""
    metrics: dict[str, float] = {}
    settings: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.until_ms < self.from_ms:
            raise ValueError(f"the training window ends ({self.until_ms}) before it begins ({self.from_ms})")
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"metric {name!r} is {value}")


class Manifest(Description, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A description, and what the registry adds to it.

    Attributes
    ----------
    version
        ``20260105T000000-3f9a2c1b``: when it was published (UTC), and the beginning of its digest. Versions of one
        kind sort in the order in which they were published.
    published_at_ms
        The publisher's clock, epoch milliseconds.
    files
        All of them, sorted by path.
    digest
        BLAKE2b-256 over all that the manifest says, but for version, time and itself.
    """

    version: Version
    published_at_ms: int
    files: Annotated[tuple[FileEntry, ...], Meta(min_length=1)]
    digest: Sum
    format_version: Literal[1] = 1

    @property
    def n_bytes(self) -> int:
        """The size of all files."""
        return sum(entry.n_bytes for entry in self.files)


def is_version(text: str) -> bool:
    """Tell whether a text can be the name of a version."""
    return _VERSION.fullmatch(text) is not None


def is_file_path(path: str) -> bool:
    """Tell whether a path stays below its folder and is no hidden file: parts of letters, digits, ``._-``."""
    return all(_PATH_PART.fullmatch(part) for part in path.split("/"))


def checked(description: Description) -> Description:
    """Return a description as it reads after being written, or say what is wrong with it.

    Raises
    ------
    RegistryError
        If JSON cannot say it, or a field is not what its type says.
    """
    try:
        return msgspec.json.decode(msgspec.json.encode(description), type=Description)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise RegistryError(
            "description of an artefact",
            value=description.kind,
            problem=f"cannot be written ({error})",
            remedy="give finite metrics, settings that JSON can say, and a window that ends after it begins",
        ) from error


def digest_of(description: Description, files: tuple[FileEntry, ...]) -> str:
    """Return the digest of a description and its files; a manifest's own is left out of it."""
    said = [getattr(description, name) for name in Description.__struct_fields__]
    data = msgspec.json.encode([FORMAT_VERSION, said, files], order="deterministic")
    return hashlib.blake2b(data, digest_size=SUM_BYTES).hexdigest()


def decode_manifest(data: bytes, folder: Path) -> Manifest:
    """Return the manifest that bytes hold, after checking that it is as it was sealed.

    Parameters
    ----------
    data
        Content of a ``manifest.json``.
    folder
        Where it lies.

    Raises
    ------
    ArtefactError
        If it is damaged or of another format.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(folder, MANIFEST_FILE, f"is damaged or of another format ({error})") from error
    digest = digest_of(manifest, manifest.files)
    if digest != manifest.digest or not manifest.version.endswith(f"-{digest[:8]}"):
        raise damaged(folder, MANIFEST_FILE, "does not fit its own sum: it was changed after it was published")
    return manifest


def damaged(folder: Path, name: str, problem: str) -> ArtefactError:
    """Return the error for a file of an artefact's folder that is not as it was published."""
    return ArtefactError(
        f"file of {folder.parent.name} {folder.name}",
        value=name,
        problem=problem,
        remedy="restore it from a backup, or publish the artefact again; `millrace models rollback` ends its service",
    )
