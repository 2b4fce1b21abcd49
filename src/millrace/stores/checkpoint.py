"""Checkpoints: the whole state and the log position it stands at, written together.

A checkpoint is a folder ``ck-<position>`` of two files::

    arrays.bin     all arrays, one after the other, each at a multiple of 4 KiB
    manifest.json  format, log position, and dtype, shape, place and CRC-32 of every array

It is written under a temporary name, flushed to disk and renamed: it exists whole or not at all. Loading reads
the file once to check every sum, then maps it copy-on-write: processes of one machine share the pages that none
of them has changed. Files are never changed once written.
"""

from __future__ import annotations

import mmap
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from millrace.base.errors import CheckpointError
from millrace.stores.fold import Arrays
from millrace.stream.log import Position, total

FORMAT_VERSION: Final = 2
ALIGNMENT: Final = 4096
_CHUNK_BYTES: Final = 1 << 20
_PREFIX: Final = "ck-"
_ARRAYS_FILE: Final = "arrays.bin"
_MANIFEST_FILE: Final = "manifest.json"


class ForeignCheckpointError(CheckpointError):
    """A checkpoint belongs to another log: nobody must serve from either before a person has looked."""


class ArrayEntry(msgspec.Struct, frozen=True):
    """Where one array lies in ``arrays.bin`` and what it is."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    crc32: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint holds.

    Attributes
    ----------
    format_version
        Of the two files; see `FORMAT_VERSION`.
    fingerprint
        Of the settings that decide the layout of the state; a state is only loaded under the same ones.
    position
        The next record of the log to apply.
    created_at_ms
        When it was written.
    actions
        The names of the action columns; a state that has these and more after them may load it.
    log_id
        Of the log whose position it is.
    arrays
        ``"<store>/<array>"`` to its entry.
    crc32
        Of the manifest itself, with this field 0.
    """

    format_version: int
    fingerprint: str
    position: tuple[int, ...]
    created_at_ms: int
    actions: tuple[str, ...]
    log_id: str
    arrays: dict[str, ArrayEntry]
    crc32: int = 0

    def sealed(self) -> Manifest:
        """Return the manifest with its own sum filled in."""
        bare = msgspec.structs.replace(self, crc32=0)
        return msgspec.structs.replace(bare, crc32=zlib.crc32(msgspec.json.encode(bare)))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes
    ----------
    path
        Its folder.
    position
        The next record of the log to apply.
    arrays
        ``"<store>/<array>"`` to arrays that may be written to: the file never changes.
    """

    path: Path
    position: Position
    created_at_ms: int
    arrays: Arrays = field(repr=False)

    def of(self, store: str) -> Arrays:
        """Return the arrays of one store, by their own names."""
        prefix = f"{store}/"
        return {name[len(prefix) :]: array for name, array in self.arrays.items() if name.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class CheckpointStatus:
    """What `Checkpoints.inspect` found out about one checkpoint; ``problem`` is empty for a good one."""

    path: Path
    position: Position
    created_at_ms: int
    n_bytes: int
    problem: str = ""


class Checkpoints:
    """The checkpoints in one folder.

    Parameters
    ----------
    folder
        Made when the first checkpoint is written.
    fingerprint
        Of the settings that decide the layout of the state.
    n_kept
        How many checkpoints are kept; at least 2, so that a damaged one has one before it.
    actions
        The known actions, in the order of their columns. Actions are only ever appended, so a checkpoint that has
        the first few of them fits: the stores make the further columns (`Fold.load`).
    """

    def __init__(self, folder: Path, fingerprint: str, n_kept: int = 3, *, actions: tuple[str, ...] = ()) -> None:
        if n_kept < 2:
            raise CheckpointError(
                "number of checkpoints kept", value=n_kept, problem="too few", remedy="keep at least 2"
            )
        self.folder = folder
        self.fingerprint = fingerprint
        self._n_kept = n_kept
        self._actions = actions

    def paths(self) -> list[Path]:
        """Return the folders of all checkpoints, oldest first, good or not."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if p.name.startswith(_PREFIX) and p.is_dir())

    def write(self, arrays: Mapping[str, Arrays], position: Position, created_at_ms: int, *, log_id: str = "") -> Path:
        """Write a checkpoint and let go of those beyond ``n_kept``.

        Parameters
        ----------
        arrays
            Store name to its arrays.
        position
            The next record of the log to apply.
        created_at_ms
            Now, by the keeper's clock.
        log_id
            Of the log.

        Raises
        ------
        CheckpointError
            If it cannot be written; the older ones stay as they are.
        """
        final = self.folder / f"{_PREFIX}{total(position):016d}"
        temporary = self.folder / f"tmp-{final.name}-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            temporary.mkdir()
            entries = _write_arrays(temporary / _ARRAYS_FILE, arrays)
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                fingerprint=self.fingerprint,
                log_id=log_id,
                position=tuple(position),
                created_at_ms=created_at_ms,
                actions=self._actions,
                arrays=entries,
            ).sealed()
            _write_durably(temporary / _MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
            _sync_folder(temporary)
            if final.exists():  # written before at this position, perhaps damaged since
                self._discard(final)
            temporary.rename(final)
            _sync_folder(self.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(
                "checkpoint",
                value=str(final),
                problem=f"cannot be written ({error.strerror or error})",
                remedy="make room on the disk and check the folder's permissions; the older checkpoints are kept",
            ) from error
        self._drop_surplus()
        return final

    def load(self, path: Path, end: Position | None = None, *, log_id: str = "") -> Checkpoint:
        """Check one checkpoint sum by sum and map it copy-on-write.

        Raises
        ------
        ForeignCheckpointError
            If it belongs to another log than ``log_id``.
        CheckpointError
            If it is damaged, of another format, written under other settings, or ahead of the log.
        """
        manifest = self._read_manifest(path)
        if log_id and manifest.log_id not in ("", log_id):
            raise ForeignCheckpointError(
                "checkpoint",
                value=str(path),
                problem="belongs to another log: the log file was lost or replaced",
                remedy="restore a backup; or, to begin anew from the log that is there, remove the folder of the "
                "checkpoints, content.db and the warehouse",
            )
        if end is not None and total(manifest.position) > total(end):
            raise CheckpointError(
                "checkpoint",
                value=str(path),
                problem=f"stands at log position {manifest.position}, but the log ends at {tuple(end)}",
                remedy="restore log and checkpoints from one backup",
            )
        try:
            with (path / _ARRAYS_FILE).open("rb") as file:
                _verify(file.fileno(), manifest, path)
                arrays = _map_arrays(file.fileno(), manifest)
        except OSError as error:
            raise _damaged(path, f"cannot be read ({error.strerror or error})") from error
        return Checkpoint(path, manifest.position, manifest.created_at_ms, arrays)

    def inspect(self, *, log_id: str = "") -> Iterator[CheckpointStatus]:
        """Yield the condition of every checkpoint, newest first, reading all bytes (for ``millrace doctor``)."""
        for path in reversed(self.paths()):
            n_bytes = sum(p.stat().st_size for p in path.iterdir())
            try:
                found = self.load(path, log_id=log_id)
            except CheckpointError as error:
                yield CheckpointStatus(path, (), 0, n_bytes, str(error))
            else:
                yield CheckpointStatus(path, found.position, found.created_at_ms, n_bytes)

    def oldest_position(self) -> Position | None:
        """Return where the oldest kept checkpoint stands: the log must not be trimmed beyond it."""
        for path in self.paths():
            try:
                return self._read_manifest(path).position
            except CheckpointError:
                continue  # it can never be loaded, so nobody will need its tail
        return None

    def newest_position(self) -> Position | None:
        """Return where the newest checkpoint with a readable manifest stands."""
        for path in reversed(self.paths()):
            try:
                return self._read_manifest(path).position
            except CheckpointError:
                continue
        return None

    def drop_before(self, position: Position) -> int:
        """Remove the checkpoints before ``position`` (erasure) and unreadable ones; return how many."""
        n_dropped = 0
        for path in self.paths():
            try:
                is_older = total(self._read_manifest(path).position) < total(position)
            except CheckpointError:
                is_older = True
            if is_older:
                self._discard(path)
                n_dropped += 1
        return n_dropped

    def _read_manifest(self, path: Path) -> Manifest:
        try:
            data = (path / _MANIFEST_FILE).read_bytes()
            version = msgspec.json.decode(data, type=dict[str, Any]).get("format_version")
            if version != FORMAT_VERSION:
                raise CheckpointError(
                    "checkpoint",
                    value=str(path),
                    problem=f"has format {version}, this version of Millrace reads {FORMAT_VERSION}",
                    remedy="remove it, so that the state is folded anew from the log",
                )
            manifest = msgspec.json.decode(data, type=Manifest)
        except OSError as error:
            raise _damaged(path, f"has no readable manifest ({error.strerror or error})") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _damaged(path, f"has a damaged manifest ({error})") from error
        if manifest.sealed() != manifest:
            raise _damaged(path, "has a manifest that does not fit its own sum")
        if manifest.fingerprint != self.fingerprint:
            raise CheckpointError(
                "checkpoint",
                value=str(path),
                problem="was written under other settings of the stores or by another version of the state",
                remedy="put the settings back, or let the state be folded anew from a log that is still whole",
            )
        if manifest.actions != self._actions[: len(manifest.actions)]:
            raise CheckpointError(
                "checkpoint",
                value=str(path),
                problem="was written with business actions that are now missing or stand in another order",
                remedy="put events.business_actions back as they were; new ones are appended after the others",
            )
        return manifest

    def _drop_surplus(self) -> None:
        for path in self.paths()[: -self._n_kept]:
            self._discard(path)

    def _discard(self, path: Path) -> None:
        # Renamed first: a folder half removed must never look like a checkpoint.
        doomed = path.with_name(f"tmp-gone-{path.name}-{os.getpid()}")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob("tmp-*"):
            shutil.rmtree(path, ignore_errors=True)


def _damaged(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        "checkpoint", value=str(path), problem=problem, remedy="it is left out; the one before it is used"
    )


def _write_arrays(path: Path, arrays: Mapping[str, Arrays]) -> dict[str, ArrayEntry]:
    entries: dict[str, ArrayEntry] = {}
    offset = 0
    with path.open("wb", buffering=0) as file:
        for store, named in arrays.items():
            for name, array in named.items():
                flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                crc32 = _write_flat(file.fileno(), flat, offset)
                entries[f"{store}/{name}"] = ArrayEntry(array.dtype.str, tuple(array.shape), offset, len(flat), crc32)
                offset += -(-len(flat) // ALIGNMENT) * ALIGNMENT
        file.truncate(offset)
        os.fsync(file.fileno())
    return entries


def _write_flat(descriptor: int, flat: np.ndarray[Any, np.dtype[np.uint8]], offset: int) -> int:
    crc32 = 0
    for start in range(0, len(flat), _CHUNK_BYTES):
        chunk = flat[start : start + _CHUNK_BYTES]
        view = chunk.data
        crc32 = zlib.crc32(view, crc32)
        # Arrays grow by doubling, so much of them is still zero: leave holes in the file instead.
        if not chunk.any():
            continue
        n_written = 0
        while n_written < len(view):
            n_written += os.pwrite(descriptor, view[n_written:], offset + start + n_written)
    return crc32


def _verify(descriptor: int, manifest: Manifest, path: Path) -> None:
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    for name, entry in manifest.arrays.items():
        crc32 = n_read = 0
        while n_read < entry.n_bytes:
            window = buffer[: min(_CHUNK_BYTES, entry.n_bytes - n_read)]
            got = os.preadv(descriptor, [window], entry.offset + n_read)
            if got == 0:
                raise _damaged(path, f"is cut short within array {name}")
            crc32 = zlib.crc32(window[:got], crc32)
            n_read += got
        if crc32 != entry.crc32:
            raise _damaged(path, f"holds a damaged array {name} (its CRC-32 does not fit)")


def _map_arrays(descriptor: int, manifest: Manifest) -> Arrays:
    n_bytes = os.fstat(descriptor).st_size
    mapped = mmap.mmap(descriptor, n_bytes, access=mmap.ACCESS_COPY) if n_bytes else b""
    arrays: Arrays = {}
    for name, entry in manifest.arrays.items():
        dtype = np.dtype(entry.dtype)
        n_items = entry.n_bytes // dtype.itemsize
        if n_items == 0:
            arrays[name] = np.zeros(entry.shape, dtype=dtype)
        else:
            flat: np.ndarray[Any, Any] = np.frombuffer(mapped, dtype, n_items, entry.offset)
            arrays[name] = flat.reshape(entry.shape)
    return arrays


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
