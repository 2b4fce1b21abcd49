"""`JoinCheckpoints`: the join's state, its place in the log and the number of its epoch, as one file.

The file is the commit: everything of an epoch (sample files) is on the disk before it is there, and everything that
names a later epoch than the newest file is not committed. It is written beside its place, flushed and renamed, so it
exists whole or not at all::

    head (JSON, one line) | zeros up to a multiple of 64 | arrays, each at a multiple of 64

Like a transactional outbox: what is to be published elsewhere (the topic) is published after the commit, from what the
commit holds, and again after a crash.
"""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from millrace.base.atomic_file import replacing
from millrace.base.errors import CheckpointError
from millrace.stores.fold import Arrays
from millrace.stream.log import Position, total

FORMAT_VERSION: Final = 2
_ALIGNMENT: Final = 64
_PREFIX: Final = "epoch-"
_SUFFIX: Final = ".join"
_MAX_HEAD: Final = 1 << 20

logger = logging.getLogger(__name__)


class _ForeignError(CheckpointError):
    """Samples and log do not belong together: nobody must join before a person has looked."""


class JoinHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says of itself.

    Attributes
    ----------
    format_version, fingerprint
        Of the file; of the settings that decide what the state means.
    log_id, position
        The log, and the next of its records to hear.
    epoch
        Counts from 1.
    watermark_ms, written_ms
        Event time that the join had reached; when the file was written, by the event clock.
    actions
        Names of the label columns.
    counts
        Running totals since the beginning, by name.
    arrays
        Name to (dtype, shape, CRC-32), in the order of their data.
    """

    format_version: int
    fingerprint: str
    log_id: str
    position: tuple[int, ...]
    epoch: int
    watermark_ms: int
    written_ms: int
    actions: tuple[str, ...]
    counts: dict[str, int]
    arrays: dict[str, tuple[str, tuple[int, ...], int]] = {}


@dataclass(frozen=True, slots=True)
class JoinCheckpoint:
    """A checkpoint with its arrays; those of a loaded one may be written to."""

    head: JoinHead
    arrays: Arrays


class JoinCheckpoints:
    """The checkpoints in one folder.

    Parameters
    ----------
    folder
        Made when the first is written.
    fingerprint
        A state is only loaded under the settings that it was written under.
    n_kept
        At least 2: a damaged one has one before it.
    """

    def __init__(self, folder: Path, fingerprint: str = "", n_kept: int = 2) -> None:
        self.folder = folder
        self._fingerprint = fingerprint
        self._n_kept = max(n_kept, 2)

    def paths(self) -> list[Path]:
        """Return the files of all checkpoints, oldest first, good or not."""
        return sorted(self.folder.glob(f"{_PREFIX}*{_SUFFIX}"))

    def write(self, checkpoint: JoinCheckpoint) -> Path:
        """Commit an epoch, then let go of what is older than the kept ones.

        Raises
        ------
        CheckpointError
            If it cannot be written; the older ones stay, and the epoch is not committed.
        """
        head = checkpoint.head
        arrays = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
        entries = {
            name: (_description(array.dtype), array.shape, zlib.crc32(_flat(array))) for name, array in arrays.items()
        }
        line = msgspec.json.encode(msgspec.structs.replace(head, fingerprint=self._fingerprint, arrays=entries))
        path = self.folder / f"{_PREFIX}{head.epoch:010d}{_SUFFIX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(f"{zlib.crc32(line):08x} ".encode() + line + b"\n")
                for array in arrays.values():
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    file.write(_flat(array))
        except OSError as error:
            raise CheckpointError(
                "checkpoint of the join",
                value=str(path),
                problem=f"cannot be written ({error.strerror or error})",
                remedy="make room on the disk and check the folder's permissions; the older ones are kept",
            ) from error
        for old in self.paths()[: -self._n_kept]:
            old.unlink(missing_ok=True)
        return path

    def newest_head(self) -> JoinHead | None:
        """Return what the newest readable checkpoint says of itself; None if there is none."""
        return next((head for path in reversed(self.paths()) if (head := _head_or_none(path)) is not None), None)

    def oldest_position(self) -> Position | None:
        """Return where the oldest kept checkpoint stands: the log must not be trimmed beyond it."""
        head = self.oldest_head()
        return None if head is None else head.position

    def oldest_head(self) -> JoinHead | None:
        """Return what the oldest readable checkpoint says of itself; None if there is none."""
        return next((head for path in self.paths() if (head := _head_or_none(path)) is not None), None)

    def load(self, *, log_id: str, end: Position, actions: tuple[str, ...]) -> JoinCheckpoint | None:
        """Return the newest good checkpoint; None if there is none, and the log has to be heard from its beginning.

        Raises
        ------
        CheckpointError
            If one belongs to another log, or is ahead of this one: files and log do not belong together.
        """
        for path in reversed(self.paths()):
            try:
                return self._load(path, log_id, end, actions)
            except _ForeignError:
                raise
            except CheckpointError as error:
                logger.error("%s", error)
        return None

    def _load(self, path: Path, log_id: str, end: Position, actions: tuple[str, ...]) -> JoinCheckpoint:
        head, start = _read_head(path)
        remedy = "restore log and samples from one backup; or remove the samples' folder to join the log anew"
        if head.log_id != log_id:
            raise _ForeignError(
                "checkpoint of the join", value=str(path), problem="belongs to another log", remedy=remedy
            )
        if total(head.position) > total(end):
            problem = f"stands at log position {head.position}, but the log ends at {end}"
            raise _ForeignError("checkpoint of the join", value=str(path), problem=problem, remedy=remedy)
        if head.fingerprint != self._fingerprint:
            raise _unusable(path, "was written under other settings of the join")
        if head.actions != actions:
            raise _unusable(path, "was written with other business actions")
        data = path.read_bytes()
        arrays: Arrays = {}
        at = start
        for name, (dtype, shape, crc32) in head.arrays.items():
            at += -at % _ALIGNMENT
            kind = _dtype(dtype)
            n_bytes = kind.itemsize * int(np.prod(shape, dtype=np.int64))
            part = data[at : at + n_bytes]
            if len(part) != n_bytes or zlib.crc32(part) != crc32:
                raise _unusable(path, f"holds a damaged array {name}")
            arrays[name] = np.frombuffer(bytearray(part), dtype=kind).reshape(shape)
            at += n_bytes
        return JoinCheckpoint(head, arrays)


def _description(dtype: np.dtype[Any]) -> str:
    """Return a dtype as text; of one with fields, all of them."""
    return msgspec.json.encode(np.lib.format.dtype_to_descr(dtype)).decode()


def _dtype(text: str) -> np.dtype[Any]:
    """Return the dtype of a text of `_description`."""
    found = msgspec.json.decode(text)
    if isinstance(found, list):
        found = [(name, kind, *(tuple(shape) for shape in more)) for name, kind, *more in found]
    return np.lib.format.descr_to_dtype(found)


def _flat(array: np.ndarray[Any, Any]) -> Any:
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _read_head(path: Path) -> tuple[JoinHead, int]:
    """Return a file's head, and where its data begins."""
    try:
        with path.open("rb") as file:
            line = file.readline(_MAX_HEAD)
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror or error})") from error
    crc32, _, text = line.rstrip(b"\n").partition(b" ")
    try:
        if int(crc32, 16) != zlib.crc32(text):
            raise _unusable(path, "has a damaged head")
        version = msgspec.json.decode(text, type=dict[str, Any]).get("format_version")
        if version != FORMAT_VERSION:
            raise _unusable(path, f"has format {version}, this version reads {FORMAT_VERSION}")
        return msgspec.json.decode(text, type=JoinHead), len(line)
    except (ValueError, msgspec.DecodeError) as error:
        raise _unusable(path, f"has a damaged head ({error})") from error


def _head_or_none(path: Path) -> JoinHead | None:
    try:
        return _read_head(path)[0]
    except CheckpointError:
        return None


def _unusable(path: Path, problem: str) -> CheckpointError:
    return CheckpointError("checkpoint of the join", value=str(path), problem=problem, remedy="it is left out")
