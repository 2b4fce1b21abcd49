"""Traces of the newest requests in bounded files that every process of a home can read.

Each process that makes traces holds a slot: a file of its own, kept by a lock that the kernel lets go when the
process ends, however it ends, so that the next one goes on with it. A file is a small head, an index of fixed size,
and a ring of records; it grows to its bound and then the oldest records are overwritten. Nothing is flushed: the file
outlives the kill of any process, and after a power cut a record that is torn shows by its sum and counts as gone.

A request id names the slot, a sequence number and a word that only this file could have given out: so a trace is
found with one look, and one that was there once is told apart from one that never was. Sequence numbers begin at the
time at which a process opens the slot, so that no id is given out twice, whatever was lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import struct
import uuid
import zlib
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np

from millrace.base.clock import Clock
from millrace.base.errors import GoneError, NotFoundError, StoreError

_MAGIC: Final = b"MRTRACE1"
_HEAD: Final = struct.Struct("<8sQQ16s")
"""Magic, bytes of the ring, entries of the index, the key of the words in ids."""
_ENTRY: Final = struct.Struct("<qQII")
"""Sequence number, place in the endless stream of records, length, CRC-32; the index holds one per sequence number."""
INDEX_ENTRY: Final = np.dtype([("sequence", "<i8"), ("place", "<u8"), ("length", "<u4"), ("crc32", "<u4")])
INDEX_START: Final = 4_096
_BYTES_PER_ENTRY: Final = 2_048
_SEQUENCES_PER_MS: Final = 1 << 10
_UNFINISHED: Final = 1 << 16
"""More ids than a process ever has under way: none of them is given out again, should the clock be set back."""
_MAX_SLOTS: Final = 4_096
_ID: Final = re.compile(r"([0-9]{1,4})-([0-9a-f]{12,15})-([0-9a-f]{8})")

logger = logging.getLogger(__name__)


class TraceStore(Protocol):
    """Where traces go, and where they are found again."""

    def next_request_id(self) -> str:
        """Return a new request id; a trace may be written under it."""

    def write(self, request_id: str, record: bytes) -> None:
        """Keep a trace. Must be quick, and must not raise: a trace that cannot be kept is lost and counted."""

    def read(self, request_id: str) -> bytes:
        """Return a trace.

        Raises
        ------
        NotFoundError
            If no such request was ever made.
        GoneError
            If its trace is not kept any more.
        """


class NoTraces:
    """Keeps no traces; a `TraceStore`."""

    def next_request_id(self) -> str:
        """Return a new request id."""
        return uuid.uuid4().hex

    def write(self, request_id: str, record: bytes) -> None:
        """Do nothing."""

    def read(self, request_id: str) -> bytes:
        """Find nothing."""
        raise NotFoundError(
            "trace of request", value=request_id, problem="no traces are kept", remedy="switch traces.is_on on"
        )

    def take_counts(self) -> dict[str, int]:
        """Return that nothing was kept and nothing lost."""
        return {"n_written": 0, "n_lost": 0}

    def close(self) -> None:
        """Nothing to release."""


class _Place(NamedTuple):
    slot: int
    sequence: int
    word: str


class _Shape(NamedTuple):
    """The head of a slot's file."""

    ring_bytes: int
    n_entries: int
    key: bytes

    @property
    def ring_start(self) -> int:
        return INDEX_START + self.n_entries * _ENTRY.size

    def entry_at(self, sequence: int) -> int:
        return INDEX_START + sequence % self.n_entries * _ENTRY.size

    def word(self, slot: int, sequence: int) -> str:
        return hashlib.blake2b(struct.pack("<qq", slot, sequence), digest_size=4, key=self.key).hexdigest()


class FileTraces:
    """Traces in a folder of ring files; a `TraceStore`. Belongs to one thread, and to the process that opened it.

    The slot is taken when the first id is asked for, so that processes that only read take none.

    Parameters
    ----------
    folder
        One per home.
    clock
        Sequence numbers follow it.
    max_bytes
        Most bytes of records in one slot.
    """

    def __init__(self, folder: Path, clock: Clock, max_bytes: int) -> None:
        self._folder = folder
        self._clock = clock
        self._max_bytes = max_bytes
        self._file = -1
        self._slot = -1
        self._shape = _Shape(0, 1, b"")
        self._next_sequence = 0
        self._end = 0
        self._n_written = self._n_lost = 0

    def next_request_id(self) -> str:
        """See `TraceStore.next_request_id`."""
        if self._file < 0:
            try:
                self._open()
            except (OSError, StoreError) as error:  # pages go on without traces
                logger.warning("no traces are kept: %s", error)
                return uuid.uuid4().hex
        sequence = self._next_sequence
        self._next_sequence += 1
        return f"{self._slot}-{sequence:012x}-{self._shape.word(self._slot, sequence)}"

    def write(self, request_id: str, record: bytes) -> None:
        """See `TraceStore.write`."""
        try:
            self._write(request_id, record)
        except (OSError, StoreError) as error:
            self._n_lost += 1
            logger.warning("the trace of request %s is lost: %s", request_id, error)
        else:
            self._n_written += 1

    def read(self, request_id: str) -> bytes:
        """See `TraceStore.read`."""
        place = _parse(request_id)
        if place is None:
            raise _unknown(request_id)
        try:
            file = os.open(self._path(place.slot), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _unknown(request_id) from None
        try:
            shape = read_shape(file)
            if shape is None or shape.word(place.slot, place.sequence) != place.word:
                raise _unknown(request_id)
            return _read_record(file, shape, place.sequence, request_id)
        finally:
            os.close(file)

    def take_counts(self) -> dict[str, int]:
        """Return how many traces were kept, and how many could not be (a full disk), since the last call."""
        counts = {"n_written": self._n_written, "n_lost": self._n_lost}
        self._n_written = self._n_lost = 0
        return counts

    def close(self) -> None:
        """Leave the slot to the next process."""
        if self._file >= 0:
            os.close(self._file)
            self._file = self._slot = -1

    def _write(self, request_id: str, record: bytes) -> None:
        place = _parse(request_id)
        shape = self._shape
        if place is None or place.slot != self._slot or place.word != shape.word(place.slot, place.sequence):
            raise StoreError("request id", value=request_id, problem="not of this slot", remedy="let the store make it")
        if len(record) > shape.ring_bytes:
            raise StoreError(
                "trace", value=len(record), problem="larger than the whole store", remedy="raise traces.max_mb"
            )
        at, room = self._end, shape.ring_bytes - self._end % shape.ring_bytes
        if len(record) > room:
            at += room  # records lie in one piece
        _write_all(self._file, record, shape.ring_start + at % shape.ring_bytes)
        self._end = at + len(record)
        # The entry comes last: a process that is killed before it leaves a request without a trace, no worse.
        entry = _ENTRY.pack(place.sequence, at, len(record), zlib.crc32(record))
        _write_all(self._file, entry, shape.entry_at(place.sequence))

    def _path(self, slot: int) -> Path:
        return self._folder / f"slot-{slot}.traces"

    def _open(self) -> None:
        """Take the first slot that no living process holds."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for slot in range(_MAX_SLOTS):
            file = os.open(self._path(slot), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            try:
                self._continue_or_begin(file)
            except OSError:
                os.close(file)
                raise
            self._file, self._slot = file, slot
            return
        raise StoreError("traces", value=_MAX_SLOTS, problem="every slot is taken", remedy="end some processes")

    def _continue_or_begin(self, file: int) -> None:
        n_entries = max(self._max_bytes // _BYTES_PER_ENTRY, 16)
        shape = read_shape(file)
        if shape is None or shape[:2] != (self._max_bytes, n_entries):
            # Another size, or no file of ours. A reader that looks meanwhile finds nothing, which is true.
            shape = _Shape(self._max_bytes, n_entries, os.urandom(16))
            os.ftruncate(file, 0)
            os.ftruncate(file, shape.ring_start)  # the index, all zeros
            _write_all(file, _HEAD.pack(_MAGIC, *shape), 0)
        index = np.frombuffer(os.pread(file, n_entries * _ENTRY.size, INDEX_START), dtype=INDEX_ENTRY)
        self._shape = shape
        self._end = int((index["place"] + index["length"]).max())
        self._next_sequence = max(self._clock.now_ms() * _SEQUENCES_PER_MS, int(index["sequence"].max()) + _UNFINISHED)


def trace_files(folder: Path) -> dict[Path, bool]:
    """Return the files of a home's traces, and whether each begins as one does; nothing is changed."""
    is_good_by_path = {}
    for path in sorted(folder.glob("slot-*.traces")):
        with path.open("rb") as file:
            is_good_by_path[path] = read_shape(file.fileno()) is not None
    return is_good_by_path


def _read_record(file: int, shape: _Shape, sequence: int, request_id: str) -> bytes:
    entry = _pread(file, _ENTRY.size, shape.entry_at(sequence))
    found, at, length, crc32 = _ENTRY.unpack(entry) if len(entry) == _ENTRY.size else (0, 0, 0, 0)
    if found < sequence:
        raise _unknown(request_id)  # given out, but its page was never finished
    if found == sequence and at % shape.ring_bytes + length <= shape.ring_bytes:
        record = _pread(file, length, shape.ring_start + at % shape.ring_bytes)
        if len(record) == length and zlib.crc32(record) == crc32:
            return record
    raise GoneError(
        "trace of request",
        value=request_id,
        problem=f"not kept any more: each process keeps the newest {shape.ring_bytes / 1e6:.0f} MB",
        remedy="ask sooner, or raise traces.max_mb",
    )


def _parse(request_id: str) -> _Place | None:
    match = _ID.fullmatch(request_id)
    return None if match is None else _Place(int(match[1]), int(match[2], 16), match[3])


def _unknown(request_id: str) -> NotFoundError:
    return NotFoundError(
        "request",
        value=request_id,
        problem="never heard of here",
        remedy="use the request_id of a page of this home",
    )


def read_shape(file: int) -> _Shape | None:
    """Return the head of an open file; None if it does not begin as a slot's does."""
    head = _pread(file, _HEAD.size, 0)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        return None
    _, ring_bytes, n_entries, key = _HEAD.unpack(head)
    return _Shape(ring_bytes, n_entries, key) if ring_bytes and n_entries else None


def _pread(file: int, length: int, at: int) -> bytes:
    with contextlib.suppress(OSError, OverflowError):
        return os.pread(file, length, at)
    return b""


def _write_all(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        n_written = os.pwrite(file, view, at)
        view, at = view[n_written:], at + n_written
