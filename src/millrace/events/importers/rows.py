"""Delimited text and lines of JSON, plain or gzipped, read row by row in constant memory.

What cannot be read is reported, not hidden.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from millrace.base.errors import SourceDataError
from millrace.events.importers.report import ImportReport

if TYPE_CHECKING:
    from _csv import Reader

_GZIP_MAGIC: Final = b"\x1f\x8b"
DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error, OSError)
"""What reading a damaged file raises."""

MAX_LINE_BYTES: Final = 4 << 20
"""A longer line is cut: no file makes us hold more than this."""


def find_file(path: Path, name: str) -> Path:
    """Return the file ``name`` or ``name.gz`` in a folder; a path to a file is taken as it is.

    Raises
    ------
    SourceDataError
        If there is no such file.
    """
    if path.is_file():
        return path
    for candidate in (path / name, path / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise SourceDataError(
        "import path",
        value=str(path),
        problem=f"holds no {name} or {name}.gz",
        remedy="give the data set's folder, or the file itself",
    )


class Table:
    """A delimited text file.

    Parameters
    ----------
    file
        Plain or gzipped (told by its first bytes).
    columns
        The header's names in the order in which values are wanted; without a header, what its columns are called.
    delimiter
        ``","`` (quoted CSV, fields may hold newlines) or a tab (never quoted).
    fallback_encoding
        For files that are not UTF-8; None reports such rows as unreadable.
    has_header
        Whether the first line names the columns.
    """

    def __init__(
        self,
        file: Path,
        columns: Sequence[str],
        *,
        delimiter: str = ",",
        fallback_encoding: str | None = None,
        has_header: bool = True,
    ) -> None:
        self.file = file
        self.columns = tuple(columns)
        self._delimiter = delimiter
        self._fallback = fallback_encoding
        self._has_header = has_header

    def rows(self, report: ImportReport) -> Iterator[tuple[int, list[str]]]:
        """Yield ``(line, values)`` per readable row; the others go to the report.

        Raises
        ------
        SourceDataError
            If the file cannot be opened or has not the header expected.
        """
        with open_stream(self.file) as stream:
            yield from self._rows(stream, report)

    def header(self) -> list[str]:
        """Return the names in the first line.

        Raises
        ------
        SourceDataError
            If the file cannot be opened, or is empty.
        """
        with open_stream(self.file) as stream:
            try:
                first = next(self._reader(self._lines(stream)), [])
            except (*DAMAGED, csv.Error) as error:
                raise self._wrong_header([], f"cannot be read ({error})") from error
        if not first:
            raise self._wrong_header([], "is empty")
        return [name.strip() for name in first]

    def _rows(self, stream: BinaryIO, report: ImportReport) -> Iterator[tuple[int, list[str]]]:
        reader = self._reader(self._lines(stream))
        order: list[int] | None = None
        n_columns = len(self.columns)
        if not self._has_header:
            order = list(range(n_columns))
        while True:
            try:
                row = next(reader)
            except StopIteration:
                break
            except DAMAGED as error:
                if order is None:
                    raise self._wrong_header([], f"cannot be read ({error})") from error
                report.n_rows += 1
                report.leave_out(self.file.name, reader.line_num, f"the file is damaged from here on: {error}", "")
                return
            except csv.Error as error:
                report.n_rows += 1
                report.leave_out(self.file.name, reader.line_num, f"not valid delimited text: {error}", "")
                continue
            if order is None:
                order, n_columns = self._order(row), len(row)
                continue
            if not row:
                continue
            report.n_rows += 1
            if len(row) != n_columns:
                reason = f"{n_columns} columns expected"
            elif not _is_text(row):
                reason = "not valid UTF-8"
            else:
                yield reader.line_num, [row[i] for i in order]
                continue
            report.leave_out(self.file.name, reader.line_num, reason, self._delimiter.join(row))
        if order is None:
            raise self._wrong_header([], "is empty")

    def _reader(self, lines: Iterator[str]) -> Reader:
        quoting: Literal[0, 3] = csv.QUOTE_NONE if self._delimiter == "\t" else csv.QUOTE_MINIMAL
        return csv.reader(lines, delimiter=self._delimiter, quoting=quoting)

    def _lines(self, stream: BinaryIO) -> Iterator[str]:
        # Bytes that are not UTF-8 pass as lone surrogates, so that only the row that holds them is lost.
        for line in lines_of(stream):
            try:
                yield line.decode()
            except UnicodeDecodeError:
                if self._fallback is not None:
                    yield line.decode(self._fallback, "replace")
                else:
                    yield line.decode("utf-8", "surrogateescape")

    def _order(self, header: list[str]) -> list[int]:
        names = [name.strip() for name in header]
        missing = [name for name in self.columns if name not in names]
        if missing:
            raise self._wrong_header(header, f"has no column {', '.join(missing)}")
        return [names.index(name) for name in self.columns]

    def _wrong_header(self, header: list[str], problem: str) -> SourceDataError:
        return SourceDataError(
            f"import file {self.file.name}",
            value=self._delimiter.join(header),
            problem=problem,
            remedy=f"its first line must name {', '.join(self.columns)}",
        )


@contextmanager
def open_stream(file: Path) -> Iterator[BinaryIO]:
    """Open a file, plain or gzipped (told by its first bytes).

    Raises
    ------
    SourceDataError
        If there is no such file.
    """
    try:
        raw = file.open("rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SourceDataError("import file", value=str(file), problem="is no file", remedy="check the path") from error
    with raw:
        stream: io.BufferedReader = raw
        if raw.peek(2).startswith(_GZIP_MAGIC):
            stream = io.BufferedReader(gzip.GzipFile(fileobj=raw), buffer_size=1 << 16)
        yield stream


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield lines, cut at `MAX_LINE_BYTES`; a byte order mark before the first is left out."""
    line = stream.readline(MAX_LINE_BYTES).removeprefix(codecs.BOM_UTF8)
    while line:
        yield line
        line = stream.readline(MAX_LINE_BYTES)


def _is_text(row: list[str]) -> bool:
    try:
        for value in row:
            if not value.isascii():
                value.encode()
    except UnicodeEncodeError:
        return False
    return True
