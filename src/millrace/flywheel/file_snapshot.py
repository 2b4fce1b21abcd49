"""`FileSnapshot`: files as they were at one moment, for a reader that takes its time.

Writers of Parquet folders replace, merge and remove files while DuckDB reads: it opens a file for its footer, and again
for its rows, seconds later. A snapshot gives every file a second name (a hard link) in a folder of the reader's own;
whatever a writer does to the first name, the reader reads on. Nothing is copied, and no writer waits.

Snapshots end with their owner: when it closes them, when it is garbage, or, for a process that was killed, when
somebody next takes or sweeps one in the same folder (an owner holds a file lock for as long as it lives).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from millrace.base.errors import StoreError

READERS: Final = ".readers"
"""The folder of snapshots below a root; the dot keeps it out of patterns such as ``topic=*``."""

_MAX_TRIES: Final = 50


class FileSnapshot:
    """Second names of some files below a root.

    Parameters
    ----------
    root
        Where the files lie, and the snapshot too: hard links do not cross file systems.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        readers = root / READERS
        readers.mkdir(parents=True, exist_ok=True)
        sweep(root)
        name = uuid.uuid4().hex
        # Locked before it has its name: a sweeper takes no young snapshot for an abandoned one.
        unnamed = readers / f"{name}.new"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        lock_path = readers / f"{name}.lock"
        unnamed.rename(lock_path)
        self.folder = readers / name
        self.folder.mkdir()
        self.close: Callable[[], object] = weakref.finalize(self, _end, self.folder, lock_path, self._lock)

    def add(self, path: Path) -> Path:
        """Return the second name of a file, below the same folders as the first.

        Raises
        ------
        FileNotFoundError
            If it is gone: what was listed has been replaced meanwhile.
        """
        link = self.folder / path.relative_to(self._root)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, link)
        except FileNotFoundError:
            raise
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            shutil.copyfile(path, link)
        return link

    def clear(self) -> None:
        """Forget what was added."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def hold_for(self, owner: object) -> None:
        """Keep the snapshot until ``owner`` is garbage."""
        weakref.finalize(owner, _close, self)  # which holds on to this object until then


def take(root: Path, files_now: Callable[[], Iterable[Path]]) -> tuple[FileSnapshot, list[Path]]:
    """Return a snapshot of the files that a listing names, and their second names.

    Parameters
    ----------
    root
        Where the files lie.
    files_now
        Lists them; asked again when one of them was gone before it had its second name.

    Raises
    ------
    StoreError
        If the files change faster than they can be named.
    """
    snapshot = FileSnapshot(root)
    for _ in range(_MAX_TRIES):
        try:
            return snapshot, [snapshot.add(path) for path in files_now()]
        except FileNotFoundError:
            snapshot.clear()
    snapshot.close()
    raise StoreError(
        "files",
        value=str(root),
        problem="are named and not there, however often one looks",
        remedy="restore the folder from a backup, or remove it: what can be made anew is",
    )


def sweep(root: Path) -> int:
    """Remove snapshots whose owners were killed; return how many there were."""
    n_swept = 0
    for lock_path in (root / READERS).glob("*.lock"):
        try:
            descriptor = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        _end(lock_path.with_suffix(""), lock_path, descriptor)
        n_swept += 1
    return n_swept


def _close(snapshot: FileSnapshot) -> None:
    snapshot.close()


def _end(folder: Path, lock_path: Path, descriptor: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock_path.unlink(missing_ok=True)
    os.close(descriptor)
