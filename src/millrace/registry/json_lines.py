"""`JsonLines`: records of one kind in a file, one a line, that is only ever added to.

One writer at a time, any number of readers, and each of them may be killed at any moment: a last line that was never
finished is none. Readers pass over it, and the next writer cuts it off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final, Generic, Literal, TypeVar

import msgspec

from millrace.base.errors import MillraceError

_BLOCK_BYTES: Final = 1 << 16

RecordT = TypeVar("RecordT", bound=msgspec.Struct)
Stamp = tuple[int, int, int, int]


class JsonLines(Generic[RecordT]):
    """The records of a file.

    Parameters
    ----------
    path
        The file; there is none before the first record. People may mend it by hand.
    record
        What a line holds.
    what
        What the lines are together, for messages: ``the flywheel's decisions``.
    error
        Raised where a whole line is damaged.
    remedy
        What to do about one.
    order
        Of the names within a line: as they are declared, or ``sorted``.
    """

    def __init__(
        self,
        path: Path,
        record: type[RecordT],
        *,
        what: str,
        error: type[MillraceError],
        remedy: str = "mend or remove that line",
        order: Literal["sorted"] | None = None,
    ) -> None:
        self.path = path
        self._what = what
        self._error = error
        self._remedy = remedy
        self._order = order
        self._decoder = msgspec.json.Decoder(record)
        self._known: tuple[Stamp | None, tuple[RecordT, ...]] = (None, ())

    def all(self) -> list[RecordT]:
        """Return all records, oldest first; a file that is as it was is not read again.

        Raises
        ------
        MillraceError
            The log's own, naming the line, if a whole one is damaged.
        """
        try:
            with self.path.open("rb") as file:
                stamp = _stamp(file)  # before the reading: what is written in between is read next time
                known, records = self._known
                if stamp != known:
                    data = file.read()
                    lines = data[: data.rfind(b"\n") + 1].splitlines()
                    records = tuple(self._read(number, line) for number, line in enumerate(lines, 1))
                    self._known = (stamp, records)
        except FileNotFoundError:
            return []
        return list(records)

    def newest(self, n: int) -> list[RecordT]:
        """Return the newest records, the newest last; only the end of the file is read."""
        if n <= 0:
            return []
        try:
            with self.path.open("rb") as file:
                lines = _last_lines(file, n)
        except FileNotFoundError:
            return []
        try:
            return [self._decoder.decode(line) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self.all()[-n:]  # which names the line

    def append(self, record: RecordT) -> None:
        """Write one down; when this returns it is on the disk. For one writer at a time."""
        line = msgspec.json.encode(record, order=self._order) + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if (whole := _whole_bytes(file)) != file.seek(0, os.SEEK_END):
                file.truncate(whole)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _read(self, number: int, line: bytes) -> RecordT:
        try:
            return self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._error(
                f"line {number} of {self._what}",
                value=str(self.path),
                problem=f"is damaged ({error})",
                remedy=self._remedy,
            ) from error


def _stamp(file: BinaryIO) -> Stamp:
    """Return what no change of a file leaves as it was: another file in its place, its size, its times."""
    stat = os.fstat(file.fileno())
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _whole_bytes(file: BinaryIO) -> int:
    """Return where the last whole line ends."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(end - _BLOCK_BYTES, 0)
        file.seek(begin)
        if (found := file.read(end - begin).rfind(b"\n")) >= 0:
            return begin + found + 1
        end = begin
    return 0


def _last_lines(file: BinaryIO, n: int) -> list[bytes]:
    """Return the last whole lines of a file, at most so many, oldest first."""
    begin = file.seek(0, os.SEEK_END)
    data = b""
    while begin and data.count(b"\n") <= n:  # the first of one more may be half of its line
        n_bytes = min(_BLOCK_BYTES, begin)
        begin -= n_bytes
        file.seek(begin)
        data = file.read(n_bytes) + data
    return data[: data.rfind(b"\n") + 1].splitlines()[-n:]
