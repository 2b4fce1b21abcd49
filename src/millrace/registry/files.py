"""Files that survive a kill and a power cut: copied, written and replaced whole, flushed with their folders."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from millrace.registry.errors import RegistryError
from millrace.registry.manifest import MANIFEST_FILE, SUM_BYTES, FileEntry, damaged, is_file_path

_CHUNK_BYTES: Final = 1 << 20
_CHECKED_BYTES: Final = 4 << 20
"""Read and summed at once: whoever serves beside is interrupted twice for as much, by the interpreter's lock."""
_READ_ONLY: Final = 0o444


def list_files(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, with ``/``, sorted.

    Raises
    ------
    RegistryError
        If there is none, or something that cannot be part of an artefact: a link, a hidden or oddly named file.
    """
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()) or not is_file_path(name):
            raise RegistryError(
                "file to publish",
                value=str(path),
                problem="cannot be part of an artefact: a link, a hidden file, or a name of odd characters",
                remedy="leave only plain files there, named with letters, digits, '.', '_' and '-'",
            )
        if path.is_file():
            found.append(name)
    if not found or MANIFEST_FILE in found:
        raise RegistryError(
            "folder to publish",
            value=str(folder),
            problem=f"holds a {MANIFEST_FILE} of its own" if found else "holds no files",
            remedy="give the folder that the training wrote",
        )
    return sorted(found)


def copy_durably(source: Path, target: Path, name: str) -> FileEntry:
    """Copy one file of an artefact and return its entry, with the sum of the bytes that were written.

    Parameters
    ----------
    source, target
        Two artefacts' folders.
    name
        The file's path below both.
    """
    digest = hashlib.blake2b(digest_size=SUM_BYTES)
    place = target / name
    place.parent.mkdir(parents=True, exist_ok=True)
    n_bytes = 0
    with (source / name).open("rb") as reader, place.open("xb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
            n_bytes += len(chunk)
        writer.flush()
        os.fchmod(writer.fileno(), _READ_ONLY)  # never changed once published
        os.fsync(writer.fileno())
    return FileEntry(path=name, n_bytes=n_bytes, blake2b=digest.hexdigest())


def check_file(folder: Path, entry: FileEntry) -> None:
    """Compare one file with its entry; a wrong size shows before the file is read.

    Raises
    ------
    ArtefactError
        Naming the file, if it is not as it was published.
    """
    path = folder / entry.path
    try:
        with path.open("rb", buffering=0) as file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes != entry.n_bytes:
                raise damaged(folder, entry.path, f"has {n_bytes} bytes instead of {entry.n_bytes}")
            found = _sum(file)
    except FileNotFoundError:
        raise damaged(folder, entry.path, "is missing") from None
    except OSError as error:
        raise damaged(folder, entry.path, f"cannot be read ({error.strerror or error})") from error
    if found != entry.blake2b:
        raise damaged(folder, entry.path, "does not fit its sum")


def _sum(file: FileIO) -> str:
    digest, chunk = hashlib.blake2b(digest_size=SUM_BYTES), memoryview(bytearray(_CHECKED_BYTES))
    while n_bytes := file.readinto(chunk):
        digest.update(chunk[:n_bytes])
    return digest.hexdigest()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and flush it to disk; the folder is the caller's to flush."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Replace a file: whoever reads it, whatever is killed, sees the old content or the new.

    For one writer at a time.
    """
    draft = path.with_name(f".{path.name}.draft")
    write_durably(draft, data)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush the names in a folder and in all folders below it."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    sync_folder(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock that one thread of one process holds at a time; the end of the process ends it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold_folder(folder: Path) -> int:
    """Mark a folder as in use by this process for as long as the returned descriptor is open."""
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def is_held(folder: Path) -> bool:
    """Tell whether a living process holds a folder (`hold_folder`), or has just let it go and removed it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
